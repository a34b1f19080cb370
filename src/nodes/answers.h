// Outcomes and what the cluster keeps of them.
#pragma once

#include "cluster/database.h"
#include "keelback/outcome.h"

namespace keelback::nodes {

// What a second caller with the same key hears. Attachments are not kept: it hears of them instead.
cluster::Answer answer_of(const Outcome& outcome);
Outcome outcome_of(cluster::Answer&& answer);

}  // namespace keelback::nodes
