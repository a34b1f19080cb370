// Whether a database may lose what it has acknowledged.
#pragma once

#include <string>
#include <vector>

#include "cluster/database.h"

namespace keelback::cluster {

// A sentence for each reason; empty: none is known.
std::vector<std::string> weaknesses(const ServerFacts& server);

}  // namespace keelback::cluster
