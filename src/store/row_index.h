// Holds in memory what the file has of each session: as it was committed, and as the current
// transaction changes it. So the store knows, without reading, ids, births and sizes, the totals
// that the file must have, and what a commit has changed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/anchor.h"

namespace keelback::store {

class RowIndex {
 public:
  struct Row {
    std::int64_t id = 0;
    std::uint64_t birth = 0;
    std::uint64_t number = 0;
    std::uint64_t proof = 0;
    std::uint64_t bytes = 0;
  };
  struct Stale {
    std::string session;
    Row row;
  };
  struct Sums {
    std::uint64_t rows = 0;  // in the file, those that are out of date too
    std::uint64_t digest = 0;
    std::uint64_t bytes = 0;  // of the rows that are good
  };

  // The session's row, as this transaction leaves it; null: there is none.
  const Row* find(const std::string& session) const {
    if (const auto staged = staged_.find(session); staged != staged_.end()) {
      return staged->second ? &*staged->second : nullptr;
    }
    const auto row = rows_.find(session);
    return row == rows_.end() ? nullptr : &row->second;
  }
  const std::unordered_map<std::string, Row>& committed() const { return rows_; }
  const std::vector<Stale>& stale() const { return stale_; }
  const Sums& sums() const { return sums_; }       // committed
  const Sums& staged() const { return changed_; }  // as this transaction leaves it
  bool is_changed() const { return !staged_.empty() || stale_dropped_; }
  std::int64_t last_id() const { return last_id_; }

  // ---- in a transaction
  void put(const std::string& session, const Row& row) {
    if (const Row* before = find(session)) take(*before, before->bytes);
    ++changed_.rows;
    changed_.digest += row.proof;
    changed_.bytes += row.bytes;
    last_id_ = std::max(last_id_, row.id);
    staged_.insert_or_assign(session, row);
  }
  void erase(const std::string& session) {
    const Row* before = find(session);
    if (before == nullptr) return;
    take(*before, before->bytes);
    staged_.insert_or_assign(session, std::nullopt);
  }
  void drop_stale() {
    for (const Stale& each : stale_) take(each.row, 0);
    stale_dropped_ = !stale_.empty();
  }
  // For the anchor.
  AnchorChanges changes() const {
    AnchorChanges changes;
    if (stale_dropped_) {
      for (const Stale& each : stale_) changes.drop(each.row.birth);
    }
    for (const auto& [session, row] : staged_) {
      const auto before = rows_.find(session);
      if (before != rows_.end() && (!row || row->birth != before->second.birth)) {
        changes.drop(before->second.birth);
      }
      if (row) changes.put(session, row->birth, row->number, row->proof);
    }
    return changes;
  }
  void commit() {
    for (auto& [session, row] : staged_) {
      if (row) {
        rows_.insert_or_assign(session, *row);
      } else {
        rows_.erase(session);
      }
    }
    if (stale_dropped_) stale_.clear();
    staged_.clear();
    stale_dropped_ = false;
    sums_ = changed_;
  }
  void rollback() {
    staged_.clear();
    stale_dropped_ = false;
    changed_ = sums_;
  }

  // ---- outside of one
  // Marks the session's row as out of date: it is in the file, but is never given back.
  void outdate(const std::string& session) {
    const auto row = rows_.find(session);
    if (row == rows_.end()) return;
    sums_.bytes -= row->second.bytes;
    changed_ = sums_;
    stale_.push_back({session, row->second});
    rows_.erase(row);
  }
  void outdate_all() {
    for (const auto& [session, row] : rows_) stale_.push_back({session, row});
    rows_.clear();
    sums_.bytes = 0;
    changed_ = sums_;
  }
  // What the anchor says at its beginning.
  AnchorChanges contents() const {
    AnchorChanges contents;
    for (const auto& [session, row] : rows_) {
      contents.put(session, row.birth, row.number, row.proof);
    }
    for (const auto& [session, row] : stale_) {
      contents.put(session, row.birth, row.number, row.proof);
      contents.mark_stale(row.birth);
    }
    return contents;
  }

 private:
  void take(const Row& row, std::uint64_t bytes) {
    --changed_.rows;
    changed_.digest -= row.proof;
    changed_.bytes -= bytes;
  }

  std::unordered_map<std::string, Row> rows_;
  std::unordered_map<std::string, std::optional<Row>> staged_;  // nullopt: erased
  std::vector<Stale> stale_;
  bool stale_dropped_ = false;
  Sums sums_, changed_;
  std::int64_t last_id_ = 0;  // of all that were ever put
};

}  // namespace keelback::store
