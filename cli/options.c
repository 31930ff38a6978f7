/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options that several commands share: how they are read, checked and completed from the environment.
 *
 * Thread: one. Invariants: whatever is wrong is said once, by cli_usage() or cli_fail(); getopt itself stays silent.
 * Failure modes: CLI_USAGE for what can never work, CLI_AUTH for a token that cannot be read.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "cli/cli.h"

/* getopt takes any unique beginning of a name; here a new option must not change what an old command line means. */
static bool spelled_out(const char *name, const char *word)
{
    size_t len = strlen(name);
    return strncmp(word, "--", 2) == 0 && strncmp(word + 2, name, len) == 0 &&
           (word[2 + len] == '\0' || word[2 + len] == '=');
}

int cli_option(const struct cli_command *command, int argc, char **argv,
               const struct option *options)
{
    int index = 0;
    opterr = 0;
    int option = getopt_long(argc, argv, ":", options, &index);
    if (option == -1) {
        return -1;
    }
    const char *word = argv[optind - 1];
    if (option == ':') {
        cli_usage(command, "'%s' needs a value", word);
    } else if (option == '?' && optopt >= CLI_OPT_NODE) {
        cli_usage(command, "'%s': this option takes no value", word);
    } else if (option == '?' && optopt != 0) {
        cli_usage(command, "there is no option '-%c'; behind a '--' it is an argument", optopt);
    } else if (option == '?') {
        cli_usage(command, "there is no option '%s'", word);
    } else {
        word = optarg == word ? argv[optind - 2] : word;
        if (spelled_out(options[index].name, word)) {
            return option;
        }
        cli_usage(command, "there is no option '%s'; did you mean --%s?", word,
                  options[index].name);
    }
    return '?';
}

int cli_number(const struct cli_command *command, const char *name, const char *text, uint64_t lo,
               uint64_t hi, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0 || value < lo ||
        value > hi) {
        return cli_usage(command, "--%s '%s' is not a number from %llu to %llu", name, text,
                         (unsigned long long)lo, (unsigned long long)hi);
    }
    *out = value;
    return 0;
}

static int take_read(struct cli_client *client, const struct cli_command *command,
                     const char *value)
{
    if (strcmp(value, "any") != 0 && strcmp(value, "bookmark") != 0 &&
        strcmp(value, "bounded") != 0 && strcmp(value, "linearizable") != 0) {
        return cli_usage(command, "--read '%s': use any, bookmark, bounded or linearizable", value);
    }
    client->read = value;
    return 0;
}

static int take_ack(struct cli_client *client, const struct cli_command *command, const char *value)
{
    enum hadb_ack_mode mode;
    if (hadb_ack_parse(value, &mode, NULL) != 0) {
        return cli_usage(command, "--ack '%s': use async, local, durable or both", value);
    }
    client->ack = value;
    return 0;
}

int cli_client_option(struct cli_client *client, const struct cli_command *command, int option,
                      const char *value)
{
    switch (option) {
    case CLI_OPT_NODE:
        client->node = value;
        return 0;
    case CLI_OPT_DB:
        client->database = value;
        return 0;
    case CLI_OPT_TOKEN_FILE:
        client->token_file = value;
        return 0;
    case CLI_OPT_BOOKMARK:
        client->bookmark = value;
        return 0;
    case CLI_OPT_REQUEST_ID:
        client->request_id = value;
        return 0;
    case CLI_OPT_READ:
        return take_read(client, command, value);
    case CLI_OPT_MAX_LAG:
        return cli_number(command, "max-lag-ms", value, 1, HADB_LAG_MS_MAX, &client->max_lag_ms);
    case CLI_OPT_ACK:
        return take_ack(client, command, value);
    case CLI_OPT_DEADLINE:
        return cli_number(command, "deadline-ms", value, 1, HADB_DEADLINE_MS_MAX,
                          &client->deadline_ms);
    case CLI_OPT_JSON:
        client->json = true;
        return 0;
    default:
        return CLI_USAGE; /* cli_option() has said what is wrong */
    }
}

/* One token: 1 to HADB_TOKEN_BYTES_MAX printable characters without blanks, at the end perhaps a line end. */
static const char *token_fault(char *text, size_t len, bool whole)
{
    if (whole && len > 0 && text[len - 1] == '\n') {
        len--;
        len -= len > 0 && text[len - 1] == '\r';
    }
    if (len == 0 && whole) {
        return "is empty";
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n' || text[i] == '\r') {
            return "has more than one line";
        }
        if (text[i] <= ' ' || text[i] > '~') {
            return "has a blank or an unprintable character";
        }
    }
    if (!whole || len > HADB_TOKEN_BYTES_MAX) {
        return "is too long";
    }
    text[len] = '\0';
    return NULL;
}

int cli_read_token(const char *path, char token[CLI_TOKEN_BYTES])
{
    token[0] = '\0';
    path = path ? path : getenv("HADB_TOKEN_FILE");
    if (path == NULL || path[0] == '\0') {
        return 0;
    }
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        return cli_fail(CLI_AUTH, "token file %s: %s", path, strerror(errno));
    }
    size_t len = fread(token, 1, CLI_TOKEN_BYTES - 1, in);
    int reason = ferror(in) ? errno : 0;
    bool whole = feof(in) != 0;
    struct stat facts;
    bool open_to_all = fstat(fileno(in), &facts) == 0 && S_ISREG(facts.st_mode) &&
                       (facts.st_mode & (S_IROTH | S_IWOTH)) != 0;
    fclose(in);
    const char *fault = reason ? strerror(reason) : token_fault(token, len, whole);
    if (fault != NULL) {
        explicit_bzero(token, CLI_TOKEN_BYTES);
        return cli_fail(CLI_AUTH, "token file %s %s; it holds one line of 1 to %u characters", path,
                        fault, HADB_TOKEN_BYTES_MAX);
    }
    if (open_to_all) {
        cli_warn("token file %s is open to every user of this machine; chmod 600 it", path);
    }
    return 0;
}

static bool is_address(const char *text, size_t len)
{
    const char *colon = memrchr(text, ':', len);
    if (colon == NULL || colon == text || len > CLI_ADDRESS_BYTES - 1) {
        return false;
    }
    size_t host_len = (size_t)(colon - text);
    bool bracketed = text[0] == '[' && text[host_len - 1] == ']';
    for (size_t i = bracketed; i < host_len - bracketed; i++) {
        unsigned char c = (unsigned char)text[i];
        if (!isalnum(c) && c != '.' && c != '-' && c != '_' && !(bracketed && c == ':')) {
            return false;
        }
    }
    unsigned port = 0;
    for (const char *at = colon + 1; at < text + len; at++) {
        if (!isdigit((unsigned char)*at) || port > 65535) {
            return false;
        }
        port = port * 10 + (unsigned)(*at - '0');
    }
    return port >= 1 && port <= 65535;
}

/* As many open files as this process may have: databases, clients and peers need them. */
void cli_raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files); /* else it goes on with what it has */
    }
}

/* "A:P,B:P,…", each perhaps written as http://A:P/. */
static int take_nodes(struct cli_client *client, const struct cli_command *command)
{
    static const char scheme[] = "http://";
    for (const char *at = client->node;; at++) {
        size_t len = strcspn(at, ",");
        const char *next = at + len;
        if (strncmp(at, scheme, sizeof scheme - 1) == 0) {
            at += sizeof scheme - 1;
            len -= sizeof scheme - 1;
            len -= len > 0 && at[len - 1] == '/';
        }
        if (!is_address(at, len)) {
            return cli_usage(command, "--node '%.200s': write ADDR:PORT (or several with commas)",
                             client->node);
        }
        if (client->nodes_len == CLI_NODES_MAX) {
            return cli_usage(command, "--node: more than %u nodes", CLI_NODES_MAX);
        }
        snprintf(client->nodes[client->nodes_len++], CLI_ADDRESS_BYTES, "%.*s", (int)len, at);
        at = next;
        if (*at == '\0') {
            return 0;
        }
    }
}

static const char *from_env(const char *value, const char *name, const char *fallback)
{
    value = value ? value : getenv(name);
    return value && value[0] ? value : fallback;
}

int cli_client_complete(struct cli_client *client, const struct cli_command *command, bool needs_db)
{
    client->node = from_env(client->node, "HADB_NODE", "127.0.0.1:4280");
    client->database = from_env(client->database, "HADB_DB", NULL);
    if (needs_db && client->database == NULL) {
        return cli_usage(command, "which database? give --db NAME (or HADB_DB)");
    }
    int r = take_nodes(client, command);
    return r != 0 ? r : cli_read_token(client->token_file, client->token);
}
