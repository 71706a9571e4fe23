#!/bin/sh
# Prints one JSON document on one line: the TCP and UDP ports on which processes of this device listen.
# It only reads, and downloads nothing. Part of tap-defender-lr; licence: that of the project (MIT).
LC_ALL=C
export LC_ALL

# Each function writes lines of fields between tabs: R, protocol, address, port, process ID, its name, path, service.
# A line that begins with E holds a sentence about what could not be read.
problem() { printf 'E\t%s\n' "$1"; }

from_proc() {
    [ "$(id -u)" = 0 ] || problem 'Processes of other users could not be seen: run as root.'
    # Which process has which socket open. The names of files come from anybody: none may break a line (-q).
    if ls -q / >/dev/null 2>&1; then quoted=-q; else quoted=; fi
    ls -ln $quoted /proc/[0-9]*/fd 2>/dev/null | awk -v OFS='\t' '
        function nibble(s, at) { return index("123456789ABCDEF", substr(s, at, 1)) }
        function byte(s, at) { return 16 * nibble(s, at) + nibble(s, at + 1) }
        # The kernel writes words of four bytes, the last byte first.
        function ipv4(s) { return byte(s, 7) "." byte(s, 5) "." byte(s, 3) "." byte(s, 1) }
        function ipv6(s,    i, word, out, zeros, at) {
            if (s ~ /^0000000000000000FFFF0000/) return "::ffff:" ipv4(substr(s, 25))
            for (i = 0; i < 4; i++) {
                word = substr(s, 8 * i + 1, 8)
                out = out sprintf(":%x", 256 * byte(word, 7) + byte(word, 5))
                out = out sprintf(":%x", 256 * byte(word, 3) + byte(word, 1))
            }
            out = out ":"
            # The longest row of zeros is left out.
            for (zeros = ":0:0:0:0:0:0:0:0:"; length(zeros) > 3; zeros = substr(zeros, 3))
                if ((at = index(out, zeros))) {
                    out = substr(out, 1, at) ":" substr(out, at + length(zeros))
                    break
                }
            if (out !~ /^::/) out = substr(out, 2)
            return out ~ /::$/ ? out : substr(out, 1, length(out) - 1)
        }
        function first_line(file,    line) { getline line < file; close(file); gsub(/\t/, " ", line); return line }
        function service(pid,    file, line, part, n, found) {
            file = "/proc/" pid "/cgroup"
            while ((getline line < file) > 0)
                for (n = split(line, part, "/"); n > 0 && found == ""; n--)
                    if (part[n] ~ /\.service$/) found = part[n]
            close(file)
            gsub(/\t/, " ", found)
            return found
        }
        # The program of a process; a line feed in its name becomes a blank.
        function program(pid,    command, line, path) {
            command = "ls -ln /proc/" pid "/exe 2>/dev/null"
            while ((command | getline line) > 0) path = path (path == "" ? "" : " ") line
            close(command)
            if (!index(path, " -> ")) return ""
            gsub(/\t/, " ", path)
            return substr(path, index(path, " -> ") + 4)
        }
        function sockets_of(kind, state,    file, line, part) {
            file = "/proc/net/" kind
            while ((getline line < file) > 0) if (split(line, part, " ") >= 10 && part[4] == state) {
                address[++sockets] = part[2]
                protocol[sockets] = kind
                inode[sockets] = part[10]
            }
            close(file)
        }
        BEGIN { sockets_of("tcp", "0A"); sockets_of("tcp6", "0A"); sockets_of("udp", "07"); sockets_of("udp6", "07") }
        /^\/proc\/[0-9]+\/fd:$/ { split($0, part, "/"); pid = part[3] }
        # What is linked begins after the first arrow: a file whose name ends like a socket is none.
        /^l[^>]* [0-9]+ -> socket:\[[0-9]+\]$/ {
            number = $NF
            gsub(/[^0-9]/, "", number)
            pids[number] = pids[number] " " pid
        }
        END {
            for (i = 1; i <= sockets; i++) {
                split(address[i], part, ":")
                host = protocol[i] ~ /6$/ ? ipv6(part[1]) : ipv4(part[1])
                port = byte(part[2], 1) * 256 + byte(part[2], 3)
                n = split(inode[i] in pids ? pids[inode[i]] : "0", owner, " ")
                for (k = 1; k <= n; k++) {
                    id = owner[k]
                    if (id && !(id in exe)) {
                        exe[id] = program(id)
                        comm[id] = first_line("/proc/" id "/comm")
                        unit[id] = service(id)
                    }
                    print "R", substr(protocol[i], 1, 3), host, port, id, comm[id], exe[id], unit[id]
                }
            }
        }'
}

from_lsof() {
    [ "$(id -u)" = 0 ] || problem 'Processes of other users could not be seen: run as root.'
    command -v lsof >/dev/null 2>&1 || problem 'lsof was not found.'
    # The names of programs come from anybody, too: each of their lines is marked.
    { ps -axo pid=,comm= | sed 's/^/ps /'; lsof -nP -iTCP -iUDP -sTCP:LISTEN -F ptPn 2>/dev/null; } | awk -v OFS='\t' '
        /^ps +[0-9]+ / { id = $2; sub(/^ps +[0-9]+ +/, ""); if (!(id in path)) path[id] = $0; next }
        /^p[0-9]+$/ { pid = substr($0, 2) }
        /^t/ { type = substr($0, 2) }
        /^P/ { protocol = tolower(substr($0, 2)) }
        /^n/ && !/->/ && !/:\*$/ {
            host = port = substr($0, 2)
            sub(/:[0-9]+$/, "", host)
            sub(/^.*:/, "", port)
            gsub(/[][]/, "", host)
            if (host == "*") host = type == "IPv6" ? "::" : "0.0.0.0"
            name = path[pid]
            sub(/^.*\//, "", name)
            print "R", protocol, host, port, pid, name, path[pid], ""
        }'
}

tab=$(printf '\t')
if [ "$(uname -s)" = Darwin ]; then from_lsof
elif [ -r /proc/net/tcp ]; then from_proc
else problem '/proc/net/tcp could not be read.'; fi | sort -t "$tab" -k 1,3 -k 4,4n -k 5,5n | awk -F '\t' '
    # A text as JSON, null if it is empty, cut after 4,000 bytes. Bytes that are no UTF-8 become U+FFFD.
    function text(s,    out, i, c, b, d, n, k) {
        if (s == "") return "null"
        if (length(s) > 4000) s = substr(s, 1, 4000) "..."
        if (s !~ /[^] !#-[^-~]/) return "\"" s "\""
        for (i = 1; i <= length(s); i++) {
            b = code[c = substr(s, i, 1)]
            if (c == "\"" || c == "\\") out = out "\\" c
            else if (b < 32 || b == 127) out = out sprintf("\\u%04x", b)
            else if (b < 128) out = out c
            else {
                n = b < 194 || b > 244 ? 0 : b < 224 ? 1 : b < 240 ? 2 : 3
                d = code[substr(s, i + 1, 1)]
                if (b == 224 && d < 160 || b == 237 && d > 159 || b == 240 && d < 144 || b == 244 && d > 143) n = 0
                for (k = 1; k <= n; k++) if ((d = code[substr(s, i + k, 1)]) < 128 || d > 191) n = 0
                out = out (n ? substr(s, i, n + 1) : "\\ufffd")
                i += n
            }
        }
        return "\"" out "\""
    }
    function number(s) { return s ~ /^[0-9]+$/ ? sprintf("%.0f", s) : "null" }
    function known(s) { return text(s == "" ? "unknown" : s) }
    BEGIN { for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i }
    $1 == "E" { errors = errors (errors == "" ? "" : ",") text($2) }
    $1 == "R" {
        key = "\"protocol\":" known($2) ",\"local_address\":" known($3) ",\"local_port\":" number($4 + 0) \
            ",\"process_id\":" number($5 + 0)
        if (key in seen) next
        seen[key] = 1
        rows[++count] = key ",\"process_name\":" text($6) ",\"process_path\":" text($7) ",\"service\":" text($8)
    }
    END {
        printf "{\"succeeded\":%s,\"errors\":[%s],\"ports\":[", (errors == "" ? "true" : "false"), errors
        for (i = 1; i <= count; i++) printf "%s{%s}", (i > 1 ? "," : ""), rows[i]
        print "]}"
    }'
