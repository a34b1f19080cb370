// Makes the driver of a node of a cluster (cluster.store is set).
#pragma once

#include <expected>
#include <memory>
#include <string>

#include "host/driver.h"
#include "host/host.h"

namespace keelback::nodes {

// `config` is that of the node's own workers; its store is replaced. The error is one sentence: the
// client library is missing, the URL is none, or the workers cannot be started. A database that
// does not answer is no error: the node joins when it does. Blocks while files are read.
[[nodiscard]] std::expected<std::unique_ptr<host::Driver>, std::string> make_node(
    host::HostConfig config);

// From now on api::make_driver() makes nodes. Once, before the first driver.
void register_nodes();

}  // namespace keelback::nodes
