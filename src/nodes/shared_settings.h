// The settings of sessions, which are the same for all nodes of a cluster, as the text that the
// database keeps: "key=value" lines.
#pragma once

#include <string>
#include <string_view>

#include "base/settings.h"
#include "cluster/event.h"

namespace keelback::nodes {

std::string shared_text(const Settings& settings);
// Reads what it knows of the text into `settings`. A key that this version does not know, or a
// value that it cannot read, stays as it is: another version of this program may have written it.
void obey(std::string_view text, Settings& settings);
cluster::Rules rules_of(const Settings& settings);

}  // namespace keelback::nodes
