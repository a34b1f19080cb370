// The layout of the first version. Such a file is read once, and its rows go into a new file. Its
// rows have checksums, so that damage is found. Nothing proves that a row is the latest one: that
// version stored no such proof.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "store/row_source.h"
#include "store/sqlite.h"

namespace keelback::store {

class Version1 final : public RowSource {
 public:
  static constexpr std::int64_t kVersion = 1;
  static constexpr std::size_t kColumns = 19;  // the session first

  // Those of version 1, and no others.
  static bool has_tables(Connection& db);
  // Takes over the connection, and the lock that it has.
  explicit Version1(Connection db);

  struct Row {
    Record record;  // without its state
    std::uint64_t bytes = 0;
  };
  std::vector<Row> take_rows() { return std::move(rows_); }  // whole ones, by use
  std::vector<std::string> take_lost() { return std::move(lost_); }
  std::optional<Record> read(const std::string& session) override;

 private:
  std::optional<Record> row(Statement& all) const;
  void take(std::string_view order);
  void name_lost();

  Connection db_;
  std::unordered_map<std::string, std::int64_t> ids_;
  std::vector<Row> rows_;
  std::vector<std::string> lost_;
};

}  // namespace keelback::store
