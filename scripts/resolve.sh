# Shared by the three entry points beside it, which source it: find the program, and tell it where the scripts lie, so
# that it looks for the lab's folders there. Bash; sets PI05, HERE and PI05_SCRIPTS.

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PI05_SCRIPTS="$HERE"

# stop PROBLEM REMEDY: say both and end with code 2.
stop() {
  printf 'error: %s\n  to do:  %s\n' "$1" "$2" >&2
  exit 2
}

# add FLAG VALUE: append to the command line unless the value is empty, which means the preset's.
FLAGS=()
add() {
  if [[ -n "$2" ]]; then FLAGS+=("--$1=$2"); fi
}

PI05="${PI05:-$HERE/../.venv/bin/pi05}"
if [[ ! -x "$PI05" ]]; then
  PI05="$(command -v pi05)" || stop "pi05 is not installed" "make setup"
fi
