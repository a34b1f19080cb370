// The answer of a call as one value of a table: nobody asks the database for a part of it. Nodes of
// the next version may append to it; names stand where numbers would change with a version.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cluster/database.h"

namespace keelback::postgres {

std::string to_bytes(const cluster::Answer& answer);
// nullopt: the bytes are no answer.
std::optional<cluster::Answer> answer_from(std::string_view bytes);

}  // namespace keelback::postgres
