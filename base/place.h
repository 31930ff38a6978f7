/* SPDX-License-Identifier: Apache-2.0 */
/* What the URLs of servers have in common: users, hosts, TLS, limits; and what silence of a server means. */
#ifndef HADB_BASE_PLACE_H
#define HADB_BASE_PLACE_H
#include "base/http.h"
#include "base/url.h"
#include "hadb/env.h"

#define HADB_PLACE_HOSTS_MAX 8u
#define HADB_PLACE_PREFIX_BYTES_MAX 256u
#define HADB_PLACE_SECRET_BYTES_MAX 4096u

/* Parameters that every such URL knows; for lists of hadb_url_params_known(). */
#define HADB_PLACE_PARAMS \
    "ca", "cert", "key", "password_file", "connect_timeout_ms", "idle_timeout_ms"

struct hadb__net_place {
    char *user, *password; /* NULL = none */
    struct hadb__net_place_host {
        char *name; /* as in a URL: [::1] has its brackets */
        uint16_t port;
    } hosts[HADB_PLACE_HOSTS_MAX];
    size_t hosts_len;
    bool tls;
    bool loopback;         /* all hosts are this one: no proxy, nobody listens in */
    char *ca, *cert, *key; /* files; NULL = the system's certificates, none of our own */
    uint32_t connect_ms_max, idle_ms_max;
};

/*
 * Reads user, password (or password_file=), up to @hosts_max hosts and the common parameters. A password that
 * would travel in clear to another host is a warning in the log of @component. HADB_EINVAL, HADB_ENOMEM,
 * HADB_EIO, HADB_EAUTH.
 */
int hadb__net_place_open(const struct hadb_url *url, const struct hadb_env *env,
                         const char *component, bool tls, uint16_t port_default, size_t hosts_max,
                         struct hadb__net_place *out, struct hadb_error *err);
void hadb__net_place_deinit(struct hadb__net_place *place);
/* Copies text that becomes part of keys: no byte of a control character, at most HADB_PLACE_PREFIX_BYTES_MAX. */
int hadb__net_prefix_copy(const char *text, char **out, struct hadb_error *err);
/* Wipes and frees; NULL is fine. */
void hadb__secret_free(char *secret);
/*
 * The result of a call whose server was not heard, by the outcome rule: a write that was @sent is unknown
 * (HADB_ETIMEDOUT), one that was not is surely not done.
 */
int hadb__net_unheard(enum hadb__http_failure failure, bool writes, bool sent, const char *text,
                      struct hadb_error *err);
#endif
