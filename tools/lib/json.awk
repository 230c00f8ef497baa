# Prints a JSON text as lines of a path, a tab and a scalar: .layers.0.size	42.
# Run with LC_ALL=C. A key or value with control characters is left out, so that
# each line is one value; what is no JSON gives lines that nobody asks for.

BEGIN { RS = "\"" }

# Quotes part the text into what is between strings and what is in one.
in_string {
    text = text $0
    if (match($0, /\\+$/) && RLENGTH % 2 == 1) {
        text = text "\""
        next
    }
    value = unescape(text)
    have = 1
    in_string = 0
    next
}
{
    structure($0)
    text = ""
    in_string = 1
}

function structure(piece,    i, c) {
    for (i = 1; i <= length(piece); i++) {
        c = substr(piece, i, 1)
        if (c == "{" || c == "[") {
            kind[++depth] = c
            at[depth] = 0
            have = 0
        } else if (c == ":") {
            key[depth] = value
            have = 0
        } else if (c == "," || c == "}" || c == "]") {
            emit()
            if (c == ",") at[depth]++
            else if (depth > 0) depth--
        } else if (c !~ /[ \t\r\n]/) {
            value = have ? value c : c
            have = 1
        }
    }
}

function emit(    path, d) {
    if (!have) return
    have = 0
    for (d = 1; d <= depth; d++) path = path "." (kind[d] == "{" ? key[d] : at[d])
    if ((path value) !~ /[\001-\037\177]/) print path "\t" value
}

function unescape(s,    out, c, code) {
    while (match(s, /\\./)) {
        out = out substr(s, 1, RSTART - 1)
        c = substr(s, RSTART + 1, 1)
        s = substr(s, RSTART + 2)
        if (c == "u") {
            code = hex(substr(s, 1, 4))
            s = substr(s, 5)
            if (code >= 55296 && code < 56320 && s ~ /^\\u/) {
                code = (code - 55296) * 1024 + hex(substr(s, 3, 4)) - 56320 + 65536
                s = substr(s, 7)
            }
            out = out utf8(code)
        } else if (index("nrtbf", c)) {
            out = out "\n"
        } else {
            out = out c
        }
    }
    return out s
}

function hex(digits,    i, number) {
    for (i = 1; i <= length(digits); i++)
        number = number * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
    return number
}

function utf8(code) {
    if (code < 128) return code < 32 ? "\n" : sprintf("%c", code)
    if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
    if (code < 65536) return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
    return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
}
