// docs/configuration.md, made from the schema. A test compares the file with this.
#pragma once

#include <string>

namespace keelback::cli {

std::string configuration_markdown();

}  // namespace keelback::cli
