// The state of a node in the words of the faces.
#pragma once

#include "cluster/status.h"
#include "host/cluster_info.h"

namespace keelback::nodes {

host::ClusterInfo info_of(cluster::Status status);

}  // namespace keelback::nodes
