#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""model/MAPPING.md is true of the models and of the C, name by name.

In the tables of a model, the first column names things of that model, the second
"file: `name`, `name`; file: ...", each of which must be in that file: a name with
() as a function that is defined there; or it says that the kernel or the program
does it.  What "In no model" names is in the C, too.  The other way round, every process and
inline of the model is in its first column; every mutation of a model (#ifdef) is
switched on by a check of model/run, and every such check is in the last section.
"""
import os
import re
import subprocess
import sys

SRC = os.environ["ZD_SRC"]
wrong = []


def read(path):
    try:
        with open(os.path.join(SRC, path), encoding="utf-8") as f:
            return f.read()
    except OSError as e:
        wrong.append(f"{path}: {e.strerror}")
        return ""


def sections(text):
    parts = re.split(r"^## (.*)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def rows(section):
    for line in section.splitlines():
        if line.startswith("|") and not re.match(r"\|[-|]+$", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def names(cell):
    """The identifiers in backquotes; what is not one (a path) is left out."""
    for name in re.findall(r"`([^`]+)`", cell):
        name = name.removesuffix("[]")
        if re.fullmatch(r"\w+(\(\))?", name):
            yield name


def has_word(text, word):
    return re.search(rf"\b{word}\b", text)


def defines(text, function):
    """Is it defined, not just declared or called?  The name at the end of a line's
    head, its parameters, and a brace or a macro's body."""
    return re.search(rf"^(?:\w[\w\s*]*[\s*])?\(?{function}\)?\([^;{{}}]*\)\s*\{{|^#define {function}\(",
                     text, re.M)


def check_c(what, c):
    """The names that @c gives are in their files.  Returns whether it gives some."""
    where = re.findall(r"([\w/]+\.[ch]): ((?:`[^`]+`(?:,\s*)?)+)", c)
    for path, listed in where:
        text = read(path)
        for name in names(listed):
            found = defines(text, name[:-2]) if name.endswith("()") else has_word(text, name)
            if not found:
                wrong.append(f"{what}: {path} has no {name}")
    return bool(where)


def check_model(model, section):
    pml, seen = read(f"model/{model}"), set()
    for step, c in list(rows(section))[1:]:
        for name in names(step):
            seen.add(name)
            if not has_word(pml, name):
                wrong.append(f"{model} has no {name}")
        if not check_c(f"{model}: {step}", c) and not c.startswith(("the kernel", "the program")):
            wrong.append(f"{model}: {step}: no C")
    for name in re.findall(r"^(?:proctype|inline) (\w+)", pml, re.M):
        if name not in seen:
            wrong.append(f"{model}: MAPPING.md doesn't say what {name} is")
    return set(re.findall(r"^#(?:ifn?def|elif) (?:!?defined\()?(\w+)", pml, re.M)) | \
        set(re.findall(r"defined\((\w+)\)", pml))


def main():
    parts = sections(read("model/MAPPING.md"))
    macros = set()
    for model in ("zonedev.pml", "folio.pml", "space.pml", "space_kernel.pml", "space_order.pml",
                  "percpu_ref.pml"):
        macros |= check_model(model, parts[model])

    for c, why in list(rows(parts["In no model"]))[1:]:
        if not check_c("in no model", c):
            wrong.append(f"in no model: no C: {why}")

    run = read("model/run")
    for macro in macros - {"ON_RELEASE", "REF_ONE_STEP", "NO_SWITCHER"}:
        if not re.search(rf"-D{macro}\b", run):
            wrong.append(f"no check switches {macro} on")
    listed = subprocess.run([os.path.join(SRC, "model/run"), "--list"], check=True, text=True,
                            stdout=subprocess.PIPE).stdout
    mutations = {line.split()[0] for line in listed.splitlines()
                 if "must fail" in line and re.search(r" (zonedev|folio|space|percpu)\.pml ", line)}
    said = set(re.findall(r"`([a-z-]+)`", parts["Which property catches what"]))
    for name in mutations - said:
        wrong.append(f"no property is said to catch {name}")
    for row in list(rows(parts["Which property catches what"]))[1:]:
        for name in set(re.findall(r"`([a-z-]+)`", row[-1])) - mutations:
            wrong.append(f"{name} is no check that must fail")

    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


sys.exit(main())
