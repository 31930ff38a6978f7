/* SPDX-License-Identifier: Apache-2.0 */
/* What the toy world shows to a machine that looks around: a listing that may leave something out, and its own object. */
#ifndef HADB_TEST_CORE_RANDOM_SURVEY_H
#define HADB_TEST_CORE_RANDOM_SURVEY_H

#include "tests/unit/core/random_world.h"

static void reply_survey(const struct hadb_action *act, struct hadb_event *ev)
{
    ev->type = HADB_EV_SURVEYED;
    if (wild(12)) {
        ev->result = HADB_R_UNKNOWN;
        return;
    }
    for (unsigned i = 0; i < OBJS_MAX; i++) {
        const struct hadb_entry_info *info = &w.objs[i].item.info;
        bool behind = w.objs[i].used && !w.objs[i].deleted && info->term >= act->term &&
                      info->slot >= act->slot + (info->term == act->term);
        bool later = info->term > ev->entry.term ||
                     (info->term == ev->entry.term && info->slot > ev->entry.slot);
        if (behind && later && !wild(5)) { /* a listing may leave something out */
            ev->entry = *info;
        }
    }
    memset(&ev->entry.prev, 0, sizeof ev->entry.prev);
    if (act->pos.slot != 0) {
        bool own = there(act->pos.term, act->pos.slot);
        ev->own = own ? HADB_R_OK : HADB_R_ABSENT;
        ev->entry.prev = w.objs[place(act->pos.term, act->pos.slot)].item.info.hash;
    }
}

/* The object with this hash, wherever it is; zero = none. */
static struct hadb_entry_info object_of(const struct hadb_hash *hash)
{
    struct hadb_entry_info found = {0};
    for (unsigned i = 0; i < OBJS_MAX; i++) {
        const struct hadb_entry_info *info = &w.objs[i].item.info;
        if (w.objs[i].used && memcmp(&info->hash, hash, sizeof *hash) == 0) {
            found = *info;
        }
    }
    return found;
}

#endif
