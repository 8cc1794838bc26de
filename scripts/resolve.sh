# Shared by the three entry points beside it, which source it: find the program and the local folders. Bash; sets
# PI05 and HERE.

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# stop PROBLEM REMEDY: say both and end with code 2.
stop() {
  printf 'error: %s\n  to do:  %s\n' "$1" "$2" >&2
  exit 2
}

# folder_of GIVEN LOCAL: print the folder to use: GIVEN where it is one, else LOCAL beside the scripts or in the working
# directory; nothing where there is none. A name of the hub is never looked up.
folder_of() {
  local candidate
  for candidate in "$1" "$HERE/$2" "$2"; do
    if [[ -n "$candidate" && -e "$candidate" ]]; then
      printf '%s' "$candidate"
      return
    fi
  done
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
