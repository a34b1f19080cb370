// What the files of a store are at the start, before anything in them is changed: whether the
// database is whole, and not older than its anchor says (store_file.h has the rules).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "store/anchor.h"
#include "store/session_rows.h"
#include "store/sqlite.h"
#include "store/store_paths.h"

namespace keelback::store {

enum class Verdict : std::uint8_t { kWhole, kNone, kVersion1, kReadOnly, kDamaged, kRefused };

struct Examined {
  Verdict verdict = Verdict::kNone;
  std::string why;              // of kDamaged and kRefused
  Totals totals;                // of kWhole
  std::vector<StoredRow> rows;  // of kWhole: all of them
};

// Connects `db`, whose rows are `rows`. It stays connected if the database is whole or of
// version 1.
Examined examine(const StorePaths& paths, const Anchor::Found& anchor, Connection& db,
                 SessionRows& rows);

// Why a store is refused.
inline constexpr std::string_view kInUse = "another process is using it";
std::string of_later_version(std::uint64_t version);

}  // namespace keelback::store
