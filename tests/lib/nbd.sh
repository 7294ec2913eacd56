# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For tests of `zonedev serve`, after lib.sh:
#
#	. "$(dirname "$0")/../lib/nbd.sh"

# own_msync: servers that are started later have the msync() of nbd_msync.c, which files in $T
# control.  A sanitizer's runtime must be loaded before it.
server_env=()
own_msync() {
	local runtime
	runtime=$(ldd "$ZONEDEV" | awk '$1 ~ /^lib[at]san/ { print $3 }')
	server_env=(env "LD_PRELOAD=${runtime:+$runtime:}$H/nbd_msync.so" "ZD_MSYNC_DIR=$T")
}

# serve SPEC [OPTION...]: zonedev serve on a socket of its own (or as the options say); $SERVER
# is its id, $URI its address, and its messages go to $T/serve.err
serve() {
	local spec=$1 socket=()
	shift
	[[ " $* " = *" --port "* || " $* " = *" --socket "* ]] || socket=(--socket "$T/nbd.sock")
	rm -f "$T/uri"
	start "${server_env[@]}" "$ZONEDEV" serve "$spec" "${socket[@]}" "$@" \
		>"$T/uri" 2>>"$T/serve.err"
	SERVER=$PID
	wait_for 20 "[ -s '$T/uri' ] || gone $SERVER" && [ -s "$T/uri" ] ||
		fail "zonedev serve $spec: $(cat "$T/serve.err")"
	URI=$(cat "$T/uri")
}

# ended STATUS: the server ends with that status, by itself or after a signal
ended() {
	local status=0
	wait_for 20 "gone $SERVER" || fail "the server doesn't end: $(cat "$T/serve.err")"
	wait "$SERVER" 2>"$T/killed" || status=$?
	[ "$status" = "$1" ] || fail "the server ended with $status: $(cat "$T/serve.err")"
}

# fio_nbd NAME [OPTION...]: fio on $URI; its output goes to $T/NAME.fio
fio_nbd() {
	local name=$1
	shift
	fio --name="$name" --aux-path="$T" --ioengine=nbd --uri="$URI" --output="$T/$name.fio" "$@"
}

# io TEXT COMMAND...: qemu-io runs the commands on $URI, and its output has TEXT in it
io() {
	local text=$1 args=()
	shift
	for c; do args+=(-c "$c"); done
	qemu-io -f raw "${args[@]}" "$URI" >"$T/io" 2>&1 || true
	grep -q "$text" "$T/io" || fail "qemu-io: $*: no '$text' in: $(cat "$T/io")"
	! grep -q "Pattern verification failed" "$T/io" || fail "qemu-io: $*: $(cat "$T/io")"
}

# client WHAT: start nbd_client on $URI, to be used with ask and hear; $CLIENT is its id
client() {
	mkfifo "$T/to" "$T/from"
	exec {_zd_to}<>"$T/to" {_zd_from}<>"$T/from"
	start "$H/nbd_client" "$URI" "$SEED" "$1" <"$T/to" >"$T/from"
	CLIENT=$PID
}

# hear PATTERN: the client's next line, which must match; it is in $LINE
hear() {
	local until=$((SECONDS + 100)) part
	LINE=''
	while ! read -r -t 1 part <&"$_zd_from"; do
		LINE+=$part	# the part that came in time
		[ "$SECONDS" -lt "$until" ] || fail "nbd_client says nothing"
		gone "$CLIENT" && ! read -r -t 0 <&"$_zd_from" && fail "nbd_client ended"
	done
	LINE+=$part
	# shellcheck disable=SC2053 # a pattern
	[[ $LINE = $1 ]] || fail "nbd_client says '$LINE', not '$1'"
}

ask() {
	echo "$1" >&"$_zd_to"
}

# end_client: the client has said "down", and quits
end_client() {
	ask quit
	wait_for 20 "gone $CLIENT" || fail "nbd_client doesn't end"
	wait "$CLIENT" || fail "nbd_client ended with $?"
	exec {_zd_to}>&- {_zd_from}>&-
	rm "$T/to" "$T/from"
}

# seeded: $SEED is ZD_SEED, or taken from the time, and printed; RANDOM starts from it
seeded() {
	SEED=${ZD_SEED:-$((($(date +%s%N) / 1000) % 1000000007))}
	RANDOM=$((SEED % 32768))
	say "seed $SEED (again: ZD_SEED=$SEED)"
}

# unlocked FILE: no process has the whole file locked, as a region would
unlocked() {
	python3 -c 'import fcntl, sys
fcntl.lockf(open(sys.argv[1], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB)' "$1" 2>/dev/null
}
