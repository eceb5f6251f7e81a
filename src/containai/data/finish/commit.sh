# The commit, and its message.

# Reads $own/changes and writes $own/message: a factual summary. Sets count. Names that git has to quote stay quoted: no
# byte of a file name reaches the message but printable ASCII. A message of the agent's takes the summary's place.
write_message() {
    count=0 more=0 adds=0 removes=0 only=
    : >"$own/list"
    {
        while [ $count -lt 20 ] && IFS= read -r line; do
            count=$((count + 1))
            line=${line#* * * * } # modes and hashes
            case $line in
            A*) adds=$((adds + 1)) ;;
            D*) removes=$((removes + 1)) ;;
            esac
            only=${line#*"$tab"}
            printf '    %.1s %.120s\n' "$line" "$only" >>"$own/list"
        done
        [ $count -lt 20 ] || more=$(wc -l)
    } <"$own/changes"
    if [ "$more" -gt 0 ]; then
        count=$((count + more))
        printf '    and %d more\n' "$more" >>"$own/list"
    fi
    case $((count - adds)),$((count - removes)) in
    0,*) verb=Add ;;
    *,0) verb=Remove ;;
    *) verb=Change ;;
    esac
    what="$count files"
    if [ $count -eq 1 ]; then
        case $only in '"'* | *[!\ -~]*) what='1 file' ;; *) what=$only ;; esac
        [ ${#what} -le 60 ] || what='1 file'
    fi
    {
        if offered; then
            cat "$own/offered"
        else
            printf '%s %s\n\nLeft in the working tree when the session ended:\n\n' "$verb" "$what"
            cat "$own/list"
        fi
        trailers
    } >"$own/message"
}

# The message that the agent offers, cleaned (clean_message), into $own/offered. $CONTAINAI_COMMIT_MESSAGE tells it where.
offered() {
    [ -d .git ] && ! [ -L .git ] || return 1
    [ -f .git/CONTAINAI_COMMIT_MESSAGE ] && ! [ -L .git/CONTAINAI_COMMIT_MESSAGE ] || return 1
    clean_message <.git/CONTAINAI_COMMIT_MESSAGE >"$own/offered" 2>/dev/null && [ -s "$own/offered" ]
}

# What stands at the end of every message of ours. A session of an earlier version has no digest of its configuration.
trailers() {
    printf '\nContainai-Session: %s\n' "$session"
    [ -z "$config" ] || printf 'Containai-Config: %s\n' "$config"
}

# commit PARENT ...: what is staged, as it differs from the first parent; sets result.
commit() {
    tree=$(git write-tree 2>/dev/null) || return 1
    write_message
    for parent; do
        shift
        set -- "$@" -p "$parent"
    done
    result=$(git commit-tree "$tree" "$@" -F "$own/message") || return 1
    made=$result
    say committed "$count"
}
