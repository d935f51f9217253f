# shellcheck shell=bash
# What every service script needs: a cache for downloads, a pid file that is safe to signal, and waiting with a deadline.
# Sourced, never run.
#
#   WEIR_SERVICES_CACHE    where downloads are kept   (${XDG_CACHE_HOME:-~/.cache}/weir-services)
#   WEIR_SERVICES_TIMEOUT  seconds a server gets to become ready, and to stop   (120)

: "${WEIR_SERVICES_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/weir-services}"
: "${WEIR_SERVICES_TIMEOUT:=120}"

say() { echo "${0##*/}: $*" >&2; }
fail() { say "$*"; exit 1; }

require() {
  local tool
  for tool; do
    command -v "$tool" >/dev/null || fail "$tool is missing; scripts/setup test installs it"
  done
}

# --- processes ---------------------------------------------------------------------------------------------------
# A pid file holds "PID STARTED", where STARTED is the start time in clock ticks since boot. The kernel hands pids out
# again; the pair is never handed out twice, so a stale file cannot make us signal somebody else's process.

started_at() {
  local line fields
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra fields <<<"${line##*) }" # cut after the command name, which may hold blanks and brackets
  echo "${fields[19]}"
}

# alive PIDFILE: whether the process that wrote it still runs; sets PID.
alive() {
  local started
  PID=
  [[ -s $1 ]] || return 1
  read -r PID started <"$1"
  [[ $(started_at "$PID") == "$started" ]] && ! grep -q '^State:.Z' "/proc/$PID/status" 2>/dev/null
}

# launch PIDFILE LOG COMMAND...: runs it in a session of its own, so that a Ctrl-C in the terminal stays with the caller.
launch() {
  local pidfile=$1 log=$2
  shift 2
  setsid "$@" >>"$log" 2>&1 </dev/null &
  echo "$! $(started_at $!)" >"$pidfile"
}

# until_true SECONDS COMMAND...: polls until the command succeeds; fails when the time is over.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

gone() { ! alive "$1"; }

# terminate PIDFILE: SIGTERM, and SIGKILL to whoever does not listen.
terminate() {
  if alive "$1"; then
    kill -TERM "$PID"
    kill -CONT "$PID" # a paused process would never see the first
    if ! until_true "$WEIR_SERVICES_TIMEOUT" gone "$1"; then
      say "process $PID ignored SIGTERM for ${WEIR_SERVICES_TIMEOUT}s; killing it"
      kill -KILL "$PID"
      until_true 10 gone "$1" || fail "process $PID cannot be killed"
    fi
  fi
  rm -f "$1"
}

listening() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_ports COUNT: the first of COUNT neighbouring ports nobody listens on, below the range the kernel hands out itself.
free_ports() {
  local first port attempt
  for ((attempt = 0; attempt < 100; attempt++)); do
    first=$((20000 + RANDOM % 12000))
    for ((port = first; port < first + $1; port++)); do
      ! listening "$port" || continue 2
    done
    echo "$first"
    return
  done
  fail "no $1 neighbouring free ports found"
}

# --- downloads ---------------------------------------------------------------------------------------------------

# once PATH COMMAND...: puts what COMMAND makes at PATH in the cache, unless it is there. COMMAND is given a path to make it at
# as its last argument, and a half-made thing is never taken for a whole.
once() {
  local path=$1 lock
  shift
  [[ -e $path ]] && return
  mkdir -p "${path%/*}"
  exec {lock}>"$path.lock"
  flock "$lock" # two test runs at once: the second finds the work done
  if [[ ! -e $path ]]; then
    rm -rf "$path.part"
    "$@" "$path.part"
    mv "$path.part" "$path"
  fi
  exec {lock}>&-
}

# maven_jars NAME POM [OPTION]...: copies what the pom depends on into the cache; sets JARS to that folder. The folder's name
# carries the pom's checksum: an edited pom is a new folder. Options are Maven's, and NAME has to tell those apart that are
# given others.
maven_jars() {
  JARS=$WEIR_SERVICES_CACHE/$1-$(sha256sum <"$2" | head -c 12)
  once "$JARS" copy_jars "$@"
}

copy_jars() {
  local name=$1 pom=$2 part=${*: -1}
  require java mvn
  say "downloading the jars of $name, once"
  # -U: Maven remembers a look-up that failed, for a day
  if ! mvn --batch-mode --quiet -U --file "$pom" "${@:3:$#-3}" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$part" &>"$JARS.log"; then
    cat "$JARS.log" >&2
    fail "Maven could not fetch the jars named in $pom"
  fi
}

# debian NAME...: unpacks packages of the distribution into the cache, where they start no service of the system's; sets
# DEBIAN to that folder.
debian() {
  DEBIAN=$WEIR_SERVICES_CACHE/debian-$1
  once "$DEBIAN" unpack_packages "$@"
}

unpack_packages() {
  local part=${*: -1} names=("${@:1:$#-1}") as_root=() deb
  require apt-get dpkg-deb
  say "downloading ${names[*]} of the distribution, once"
  mkdir "$part"
  if ! (cd "$part" && apt-get download -qq "${names[@]}") &>"$DEBIAN.log"; then
    # a fresh image has no lists of packages
    if ((EUID != 0)); then as_root=(sudo -n); fi
    if ! ("${as_root[@]}" apt-get update -qq && cd "$part" && apt-get download -qq "${names[@]}") &>>"$DEBIAN.log"; then
      cat "$DEBIAN.log" >&2
      fail "apt-get could not download ${names[*]}; install them, or run apt-get update as root"
    fi
  fi
  for deb in "$part"/*.deb; do dpkg-deb -x "$deb" "$part"; done
}
