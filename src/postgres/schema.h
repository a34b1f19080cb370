// The tables, in the database's schema `keelback`, and their versions. The first node makes them.
// A node works with tables that are one version older or newer than it knows.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <string>

#include "base/time.h"
#include "postgres/connection.h"

namespace keelback::postgres {

// The version of the tables, or why there are none to work with, in one sentence.
using OnPrepared = std::move_only_function<void(std::expected<std::uint32_t, std::string>)>;

// Makes the tables if they are not there, and looks whether we may work with them: PostgreSQL 13 or
// later, texts in UTF-8, a version near to ours. Nodes may do this at the same time. `connection`
// must outlive it. `done` as in Connection::ask().
void prepare_tables(Connection& connection, Time deadline, OnPrepared done);

}  // namespace keelback::postgres
