// What a node asks (cluster/database.h), as statements, and what comes back, as replies.
#pragma once

#include <span>
#include <vector>

#include "cluster/database.h"
#include "postgres/statement.h"

namespace keelback::postgres {

// ---- nodes
Statement join(const cluster::Join& request);
Statement beat(const cluster::Beat& request);      // a row with the beat before, if it was done
Statement retire(const cluster::Retire& request);  // as all writes below: a row, if it was done
Statement leave(const cluster::Leave& request);
Statement server_facts();
cluster::ServerFacts server_facts_from(const Rows& rows);
Statement all_nodes();
struct AllNodes {
  std::string started;
  cluster::SharedSettings settings;
  std::vector<cluster::NodeRow> nodes;
};
AllNodes all_nodes_from(const Rows& rows);

// ---- sessions
Statement find(const cluster::Find& request);
cluster::Standing standing_from(const Rows& rows);  // also of a claim that was done
Statement claim(const cluster::Claim& request);
// Several at once, of different sessions, and with different keys. The rows are the positions, from
// 1 on, of those that were done.
Statement commit(std::span<const cluster::Commit* const> requests);
std::size_t bytes_of(const cluster::Commit& request);
Statement release(const cluster::Release& request);
Statement drop(const cluster::Drop& request);
Statement owned(const cluster::Owned& request);
cluster::OwnedRows owned_from(const Rows& rows);
Statement sweep(const cluster::Sweep& request);
cluster::Swept swept_from(const Rows& rows);

// ---- idempotency keys
Statement key_open(const cluster::KeyOpen& request);
Statement key_find(const cluster::KeyFind& request);
cluster::KeyOpened key_from(const Rows& rows);  // without `done`
Statement key_answer(const cluster::KeyAnswer& request);
Statement key_drop(const cluster::KeyDrop& request);

// ---- settings
Statement write_settings(const cluster::WriteSettings& request);

}  // namespace keelback::postgres
