// Rows that must still be written into a new file of the store: rows that were saved from a damaged
// file, or that an earlier version wrote. Until then they are read from here.
#pragma once

#include <optional>
#include <string>

#include "store/store.h"

namespace keelback::store {

class RowSource {
 public:
  virtual ~RowSource() = default;
  // With its state; nullopt: it cannot be read (any more).
  virtual std::optional<Record> read(const std::string& session) = 0;
};

}  // namespace keelback::store
