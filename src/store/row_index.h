// What the file holds of each session, in memory: as it is committed, and as the transaction that
// is under way changes it. So that the store knows sizes and births without reading.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

namespace keelback::store {

class RowIndex {
 public:
  struct Row {
    std::uint64_t birth = 0;
    std::uint64_t number = 0;
    std::uint64_t bytes = 0;
  };

  // The session's row, as this transaction leaves it; null: there is none.
  const Row* find(const std::string& session) const {
    if (const auto staged = staged_.find(session); staged != staged_.end()) {
      return staged->second ? &*staged->second : nullptr;
    }
    const auto row = rows_.find(session);
    return row == rows_.end() ? nullptr : &row->second;
  }
  std::size_t size() const { return rows_.size(); }             // committed
  std::uint64_t bytes() const { return bytes_; }                // committed
  std::uint64_t staged_bytes() const { return staged_bytes_; }  // as this transaction leaves it

  void put(const std::string& session, const Row& row) {
    const Row* before = find(session);
    staged_bytes_ += row.bytes - (before != nullptr ? before->bytes : 0);
    staged_.insert_or_assign(session, row);
  }
  void erase(const std::string& session) {
    const Row* before = find(session);
    if (before == nullptr) return;
    staged_bytes_ -= before->bytes;
    staged_.insert_or_assign(session, std::nullopt);
  }
  void commit() {
    for (auto& [session, row] : staged_) {
      if (row) {
        rows_.insert_or_assign(session, *row);
      } else {
        rows_.erase(session);
      }
    }
    staged_.clear();
    bytes_ = staged_bytes_;
  }
  void rollback() {
    staged_.clear();
    staged_bytes_ = bytes_;
  }
  void clear() { *this = {}; }

 private:
  std::unordered_map<std::string, Row> rows_;
  std::unordered_map<std::string, std::optional<Row>> staged_;  // nullopt: erased
  std::uint64_t bytes_ = 0;
  std::uint64_t staged_bytes_ = 0;
};

}  // namespace keelback::store
