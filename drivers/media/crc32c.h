/* SPDX-License-Identifier: MIT */
/*
 * CRC-32C (Castagnoli, reflected: the polynomial of iSCSI and ext4), by the CPU's own
 * instruction where there is one.
 */
#ifndef ZD_DRIVERS_MEDIA_CRC32C_H
#define ZD_DRIVERS_MEDIA_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * zd_crc32c - go on with @crc (0 to begin) over @len bytes.  The usual one, with both
 * inversions: zd_crc32c(0, "123456789", 9) is 0xe3069283.
 */
uint32_t zd_crc32c(uint32_t crc, const void *data, size_t len);

/*
 * zd_crc32c_x4 - a checksum for large pieces: the CRCs of every fourth 64-bit word, from
 * word 0, 1, 2 and 3 on, and over those four, as little-endian words, another one.  One
 * CRC alone waits for its own result three cycles a word; four of them don't.
 * @len: a multiple of 32.
 */
uint32_t zd_crc32c_x4(const void *data, size_t len);

/* For tests: as on a CPU without the instruction. */
uint32_t zd_crc32c_plain(uint32_t crc, const void *data, size_t len);
uint32_t zd_crc32c_x4_plain(const void *data, size_t len);

#endif
