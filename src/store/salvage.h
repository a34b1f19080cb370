// Saves from a damaged store each row that can be read somewhere in its file or its log and that is
// proven to be the latest one that was acknowledged.
//
// A row carries its own proof (session_rows.h), so that other bytes are never taken for a row. A
// witness says which row of a session is the latest: at the start the anchor, later the store's own
// memory. Only the row that the witness names is taken, wherever it lies. One commit may have been
// under way when the process died. Its rows are newer than the witness says, and valid too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/raw_pages.h"
#include "store/row_source.h"
#include "store/session_rows.h"

namespace keelback::store {

struct Witness {
  struct Row {
    std::string session;
    std::uint64_t proof = 0;
  };
  std::uint64_t store = 0;
  std::unordered_map<std::uint64_t, Row> rows;  // the latest of each session, by birth
  // Every commit after this one but the next was never made.
  std::uint64_t last_commit = 0;
  bool may_be_behind = false;  // the next one may have been made
};

class Salvage final : public RowSource {
 public:
  // Reads everything. The files may be moved later, but not written to.
  Salvage(const std::string& file, const std::string& log, const Witness& witness);

  struct Saved {
    Record record;  // without its state
    std::uint64_t bytes = 0;
    std::uint64_t proof = 0;
  };
  // One for each session, by use.
  std::vector<Saved> take_saved() { return std::move(saved_); }
  // A row is newer than the witness allows. So the witness is incomplete, nothing is proven, and
  // nothing is saved.
  bool is_contradicted() const { return contradicted_; }
  // Sessions of all that looks like a row, of version 1 too, proven or not, old or not.
  static std::vector<std::string> names(const std::string& file, const std::string& log);

  std::optional<Record> read(const std::string& session) override;

 private:
  struct Candidate {
    RawPages::Place place;
    std::uint64_t proof = 0;
    std::uint64_t commit = 0;
  };
  void look_at(const Witness& witness, RawPages::Place place, std::string_view local);
  void save(const std::string& session, const std::vector<Candidate>& candidates);
  std::optional<StoredRow> proven(RawPages::Place place, std::string& payload) const;

  const std::uint64_t store_;
  RawPages pages_;
  std::unordered_map<std::string, std::vector<Candidate>> candidates_;  // by session
  std::unordered_map<std::string, RawPages::Place> places_;
  std::vector<Saved> saved_;
  bool contradicted_ = false;
};

}  // namespace keelback::store
