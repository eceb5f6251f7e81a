# clean_message: the commit message on standard input, fit for every terminal and every reader of a log.
#
# The agent wrote it. What is kept is named here, whatever else is dropped byte by byte: ASCII from space to ~, and the
# UTF-8 of visible characters in ranges that hold no control, format, bidirectional, invisible or combining character.
# In the C locale sed matches single bytes, so what comes out is valid UTF-8 by construction.
#
# Lines that a reader takes for more than text are dropped: trailers of ours, the line that ends a message for
# git-interpret-trailers(1) ("---"), and the scissors of git-commit(1), after which git looks for no trailer.

MESSAGE_BYTES=16384 MESSAGE_LINES=100 MESSAGE_WIDTH=120 SUBJECT_WIDTH=72

# Sets chars: an expression for one character beyond ASCII.
visible_characters() {
    rest=$(printf '[\200-\277]')
    chars=$(printf '\302[\241-\254\256-\277]|[\303-\311]')$rest # U+00A1 to U+027F without the soft hyphen: Latin
    chars=$chars$(printf '|[\316-\321\323]')$rest               # U+0380 to U+047F, U+04C0 to U+04FF: Greek, Cyrillic
    chars=$chars$(printf '|\322[\200-\201\212-\277]')           # U+0480 to U+04BF without the combining ones
    chars=$chars$(printf '|\342\200[\220-\247\260-\277]')       # U+2010 to U+2027, U+2030 to U+203F: punctuation
    chars=$chars$(printf '|\342[\206-\213\224-\236]')$rest      # U+2180 to U+22FF, U+2500 to U+27BF: arrows, signs
    chars=$chars$(printf '|\343\200[\201-\251]|\343\201[\201-\277]|\343\202[\200-\226\233-\277]') # U+3001 to U+30BF
    chars=$chars$(printf '|\343\203')$rest$(printf '|[\344-\351]')$rest$rest # U+30C0 to U+30FF, U+4000 to U+9FFF
    chars=$chars$(printf '|\352[\260-\277]')$rest$(printf '|[\353\354]')$rest$rest
    chars=$chars$(printf '|\355[\200-\235]')$rest$(printf '|\355\236[\200-\243]')   # U+AC00 to U+D7A3: Hangul
    chars=$chars$(printf '|\360\237[\214-\233\244-\247]')$rest  # U+1F300 to U+1F6FF, U+1F900 to U+1F9FF: pictures
}

clean_message() {
    visible_characters
    high=$(printf '[\200-\377]') open=$(printf '\001') close=$(printf '\002')
    ours='^ *[Cc][Oo][Nn][Tt][Aa][Ii][Nn][Aa][Ii]-[A-Za-z0-9-]* *[:=]'
    head -c "$MESSAGE_BYTES" | tr '\t' ' ' | tr -cd '\n\040-\176\200-\377' | sed -E "
        s/($chars)+/$open&$close/g
        s/(^|$close|[ -~])$high+/\\1/g
        s/[$open$close]//g
        /$ours/d
        /^---( |\$)/d
        /-{24} >8 -{24}/d
        s/^(($chars|[ -~]){$MESSAGE_WIDTH}).*/\\1/
        s/ +\$//
    " | {
        count=0 gap=
        while [ $count -lt $MESSAGE_LINES ] && { IFS= read -r line || [ -n "$line" ]; }; do
            if [ -z "$line" ]; then
                gap=x
                continue
            fi
            case $count in
            0) line=$(printf '%s\n' "$line" | sed -E "s/^ +//; s/^(($chars|[ -~]){$SUBJECT_WIDTH}).*/\\1/; s/ +\$//") gap= ;;
            1) gap=x ;; # else git would take the second line for a part of the subject
            esac
            [ -z "$gap" ] || printf '\n'
            printf '%s\n' "$line"
            count=$((count + 1)) gap=
        done
    }
}
