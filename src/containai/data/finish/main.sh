# The two ways: with the agent's repository, and without it.

finish_theirs() {
    find_theirs
    [ -n "$theirs" ] || return 1
    hide_endless
    set -- "$theirs/refs"
    for file in packed-refs shallow; do
        ! [ -f "$theirs/$file" ] || set -- "$@" "$theirs/$file"
    done
    # Git reads all of such a file, however long it is.
    if find "$theirs/refs/" -type f -size +4096c -exec rm -f {} + -print | grep -q .; then
        leave "not returned: what a ref names whose file is larger than that of any ref"
    fi
    make_own "$theirs/objects" "$@" || return 1
    ! [ -f "$theirs/info/exclude" ] || cp "$theirs/info/exclude" "$own/info/exclude" 2>/dev/null
    read_heads
    start=${head:-$tip}
    [ -n "$start" ] || return 1
    stage "$start" && restore_lfs "$start" && embed_all "$start" || return 1

    set -- "$start"
    if [ -n "$tip" ] && [ "$tip" != "$start" ] && ! contains "$start" "$tip"; then
        if contains "$tip" "$start"; then
            set -- "$tip"
        else
            set -- "$tip" "$start"
            note "$branch and what was checked out had parted: the last commit joins both, its content is what was on disk"
        fi
    fi
    if [ -f "$theirs/MERGE_HEAD" ]; then
        [ "$(wc -c <"$theirs/MERGE_HEAD")" -le 4096 ] || leave "not returned: some of the many commits that a merge was to join"
        for merged in $(head -c 4096 <"$theirs/MERGE_HEAD" | tr -cd '0-9a-f\n'); do
            ! is_commit "$merged" || contains "$start" "$merged" || set -- "$@" "$merged"
        done
    fi
    result=$1
    if [ -s "$own/changes" ] || [ $# -gt 1 ]; then
        [ "$1" = "$start" ] || changes "$1"
        commit "$@" || return 1
    fi
    [ "$result" = "$base" ] || deliver
}

# Without the agent's repository: its files, onto what the host has.
finish_files() {
    theirs=
    hide_endless
    store=$top/.git/containai-objects
    mkdir -p "$store" 2>/dev/null || store=${TMPDIR:-/tmp}/containai-objects.$$
    mkdir -p "$store" && make_own "$store" && fetch_remote --depth=1 || return 1
    stage "$remote" && embed_all "$remote" || return 1
    result=$remote
    ! [ -s "$own/changes" ] || { commit "$remote" && push; }
}

# Commits that are not returned: the user learns of them, and they stay in the workspace.
other_work() {
    git for-each-ref --no-merged="$result" --format='%(refname)' refs/heads refs/stash >"$own/others" 2>/dev/null ||
        leave "not returned: what branches and stash may hold, as git cannot read all of them"
    while IFS= read -r ref; do
        case $ref in
        refs/stash) leave "not returned: commits of the stash" ;;
        *) leave "not returned: commits of another branch" "${ref#refs/heads/}" ;;
        esac
    done <"$own/others"
}

made=
mend_files
if finish_theirs; then
    other_work
else
    why=$(printf '%s' "${said:-}" | head -n 1)
    # A repository that is there may hold commits: the host keeps the workspace, and recover tries again.
    [ -z "$theirs" ] || leave "not returned: commits that no push brought home"
    note "the workspace's repository could not be used; its files are committed onto what was pushed last${why:+. Git said}" "$why"
    if ! finish_files; then
        # What the host's git said, which has the reason, before what ours makes of it.
        why=$(printf '%s\n' "${said:-}" | sed -n 's/^remote: *error: *\(.*[^ ]\) *$/\1/p' | head -n 1)
        [ -n "$why" ] || why=$(printf '%s' "${said:-}" | tail -n 3 | tr '\n' ' ')
        show_endless
        say failed "${why:+git said: $(quoted "$why" 150)}"
        exit 1
    fi
fi
show_endless
say result "$result"
