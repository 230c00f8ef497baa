# shellcheck shell=sh
# Downloads: what a server answers, what that means, and how it is gone on with.
# Sourced after host.sh and progress.sh.
# shellcheck disable=SC2034,SC2154 # catalogue.sh and owners.sh assign the model's variables

hub_endpoint=${HF_ENDPOINT:-https://huggingface.co}
hub_endpoint=${hub_endpoint%/}
newline='
'

# The token, from where the hub's own tools keep it. It goes to the hub alone, and
# over a connection that nobody else reads.
hub_token() { # URL
    case $1 in "$hub_endpoint"/*) ;; *) return 0 ;; esac
    case $1 in https://* | http://127.0.0.1[:/]* | http://localhost[:/]*) ;; *) return 0 ;; esac
    hub_token=${HF_TOKEN:-}
    [ -n "$hub_token" ] ||
        read -r hub_token 2>/dev/null <"${HF_TOKEN_PATH:-${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}/token}" || :
    case $hub_token in
        *[!A-Za-z0-9._-]*) die 2 "HF_TOKEN, or the file of it, has characters that are in no token; copy it again from the hub's settings" ;;
    esac
    [ -z "$hub_token" ] || printf 'header = "Authorization: Bearer %s"\n' "$hub_token"
}

# transfer URL OPTION...: curl, which sets http_status, http_headers (those of the
# last answer), http_body and curl_error, and fails as curl does. The token is on no
# command line, where other users of the machine could read it.
transfer() {
    transfer_url=$1
    shift
    transfer_config=$(hub_token "$transfer_url") || exit
    transfer_status=0
    http_reply=$(printf '%s\n' "$transfer_config" |
        curl -K - -f -L -sS --connect-timeout 15 -D - -w '\n%{http_code}' --stderr - "$@" "$transfer_url") || transfer_status=$?
    transfer_config=''
    http_status=${http_reply##*"$newline"}
    http_reply=${http_reply%"$newline"*}
    curl_error=$(printf '%s\n' "$http_reply" | sed -n 's/^curl: ([0-9]*) //p' | tail -n 1)
    http_headers=$(printf '%s\n' "$http_reply" | part_of_reply headers)
    http_body=$(printf '%s\n' "$http_reply" | part_of_reply body)
    return "$transfer_status"
}

# Redirections come first, each with headers and an empty line.
part_of_reply() { # headers or body
    LC_ALL=C awk -v wanted="$1" '
        { line = $0; sub(/\r$/, "", line) }
        !in_body && blank && line !~ /^HTTP\// { in_body = 1 }
        in_body { if (wanted == "body") print; next }
        line ~ /^HTTP\// { count = 0 }
        { blank = line == ""; kept[++count] = line }
        END { if (wanted == "headers") for (i = 1; i <= count; i++) print kept[i] }'
}

header() { # NAME in small letters
    printf '%s\n' "$http_headers" | LC_ALL=C awk -v name="$1:" 'tolower(substr($0, 1, length(name))) == name { value = substr($0, length(name) + 1); sub(/^ */, "", value) } END { print value }'
}

# Waits as long as a server asks for, if that is not too long, a few times.
# Fails where there is nothing to wait for.
wait_as_asked() {
    case $http_status in 429 | 503) ;; *) return 1 ;; esac
    wait_seconds=$(header retry-after)
    # The hub tells it in the newer header as well: "api";r=0;t=55
    are_counts "$wait_seconds" || wait_seconds=$(header ratelimit | sed -n 's/.*;t=\([0-9]*\).*/\1/p')
    are_counts "$wait_seconds" || wait_seconds=$((10 * (waits + 1)))
    if [ "$waits" -ge 3 ] || [ "$wait_seconds" -gt 300 ]; then return 1; fi
    waits=$((waits + 1))
    say "$(host_of "$transfer_url") asks to wait $wait_seconds s (HTTP $http_status)"
    sleep "$wait_seconds"
}

host_of() {
    host=${1#*://}
    printf '%s\n' "${host%%/*}"
}

# refused NAME: ends with what a server's answer means and what to do.
refused() {
    case $http_status:$(header x-error-code) in
        401:GatedRepo | 403:GatedRepo | 403:*)
            die 4 "$1: its owner lets only those have it who have agreed to a licence; do so at $hub_endpoint/$repo_owner/$repo_name, then set HF_TOKEN to a token of that account that may read it"
            ;;
        401:*)
            [ -z "$(hub_token "$transfer_url")" ] ||
                die 4 "$1: there is no such repository that this token may see; check the name, and HF_TOKEN"
            die 4 "$1: there is no such public repository; check the name, or for a private one set HF_TOKEN"
            ;;
        404:RevisionNotFound) die 4 "$1: the repository has no revision ${repo_revision:-main}; leave it out, or name another" ;;
        404:*) die 4 "$1: there is no such repository or file at $(host_of "$transfer_url"); check the name" ;;
        429:*) die 4 "$1: $(host_of "$transfer_url") has been asked too often from this address; try again later, or set HF_TOKEN, which has a limit of its own" ;;
        [45]??:*) die 4 "$1: $(host_of "$transfer_url") answers with HTTP $http_status; try again later" ;;
    esac
    die 4 "$1 cannot be fetched from $(host_of "$transfer_url"): ${curl_error:-curl failed}; check the network and try again"
}

# fetch_url brings model_source to fetch_part, going on where an earlier attempt
# ended, and again as long as each attempt brings something. Fails if the source
# cannot be reached or does not give it.
fetch_url() {
    have curl || install_here "curl (or download $model_source to $model_file)"
    waits=0
    fetch_before=$(part_bytes)
    [ "$fetch_before" != "$model_bytes" ] || return 0
    [ "$fetch_before" -lt "$model_bytes" ] || rm -f "$fetch_part"
    until transfer "$model_source" -C - -o "$fetch_part"; do
        fetch_now=$(part_bytes)
        if [ "$transfer_status" = 33 ] || [ "$http_status" = 416 ]; then
            # What is here cannot be gone on with.
            [ "$fetch_now" != 0 ] || return 1
            rm -f "$fetch_part"
        elif ! wait_as_asked; then
            case $http_status:$model_name in
                [45]??:hf:*) refused "$model_name" ;;
                [45]??:*) return 1 ;;
            esac
            [ "$fetch_now" != 0 ] || return 1
            [ "$fetch_now" -gt "$fetch_before" ] ||
                die 4 "the download of $model_name broke off at $(human_bytes "$fetch_now") of $(human_bytes "$model_bytes"); run the same command again, it goes on from there"
            fetch_before=$fetch_now
            sleep 1
        fi
    done
}

part_bytes() {
    if [ -f "$fetch_part" ]; then file_bytes "$fetch_part"; else echo 0; fi
}
