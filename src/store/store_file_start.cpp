// Reads what an earlier run has left, and decides which part of it is valid.
#include <fmt/format.h>
#include <sqlite3.h>

#include <algorithm>
#include <set>
#include <utility>

#include "os/random.h"
#include "store/examination.h"
#include "store/salvage.h"
#include "store/store_file.h"
#include "store/version_1.h"

namespace keelback::store {
namespace {

// The anchor of its own store says that it is out of date, or that it was never acknowledged.
bool is_stale(const StoredRow& row, const Anchor::Found& anchor) {
  // A commit that was reported as failed, but is there.
  if (anchor.void_from > 0 && row.commit >= anchor.void_from && row.commit <= anchor.used) {
    return true;
  }
  const auto entry = anchor.entries.find(row.record.birth);
  return entry != anchor.entries.end() && entry->second.mark != Anchor::Mark::kNone &&
         row.commit <= entry->second.marked_at;
}

}  // namespace

std::expected<void, std::string> StoreFile::open() {
  const auto wrong = [this](std::string_view why) {
    return std::unexpected(fmt::format("{}: {}", shown_, why));
  };
  if (const auto usable = paths_.check(); !usable) return wrong(usable.error());
  claim_ = PathClaim(paths_.database);
  if (!claim_.valid()) return wrong(kInUse);
  if (const int code = open_list(); is_busy(code) || code == SQLITE_PERM) {
    return wrong(is_busy(code) ? std::string(kInUse) : error_);
  }
  static_cast<void>(paths_.finish_swap(StorePaths::aside_suffix()));
  const Anchor::Found anchor = Anchor::read(paths_.anchor);
  if (anchor.health == Anchor::Health::kLater) return wrong(of_later_version(anchor.version));
  anchor_aside_ =
      anchor.health == Anchor::Health::kTorn || anchor.health == Anchor::Health::kDamaged;
  Examined examined = examine(paths_, anchor, db_, in_file_);
  switch (examined.verdict) {
    case Verdict::kRefused:
      return wrong(examined.why);
    case Verdict::kWhole:
      adopt(std::move(examined), anchor);
      break;
    case Verdict::kNone:
      store_ = os::random_word();
      break;
    case Verdict::kVersion1:
      take_version_1();
      break;
    case Verdict::kReadOnly:
      lose_unread(anchor);
      break;
    case Verdict::kDamaged:
      save_rows(examined.why, anchor);
      break;
  }
  settle(anchor);
  return {};
}

// ---- a database that is whole

void StoreFile::adopt(Examined&& whole, const Anchor::Found& anchor) {
  store_ = whole.totals.store;
  commit_ = whole.totals.commit;
  used_ = commit_ + 1;  // what earlier runs have left in the log under this number is void
  state_ = State::kOpen;
  std::ranges::stable_sort(whole.rows, std::less<>(),
                           [](const StoredRow& row) { return row.record.used_ms; });
  std::vector<std::string> stale;
  for (StoredRow& row : whole.rows) {
    rows_.put(row.record.session, {row.id, row.record.birth, row.record.number, row.proof,
                                   bytes_of(row.record) + row.state_bytes});
    if (!stale_list_.had(row.record.birth) && !(anchor.store == store_ && is_stale(row, anchor))) {
      found_.push_back(std::move(row.record));
      continue;
    }
    const auto entry = anchor.entries.find(row.record.birth);
    const bool told = entry != anchor.entries.end() && anchor.store == store_ &&
                      entry->second.mark == Anchor::Mark::kTold;
    if (!told) lost_.push_back(row.record.session);
    stale.push_back(std::move(row.record.session));
  }
  rows_.commit();
  for (const std::string& session : stale) rows_.outdate(session);
  if (!stale.empty()) {
    say(true, fmt::format("snapshots that an earlier run could not replace are dropped ({}); their "
                          "sessions are lost.",
                          stale.size()));
  }
  if (anchor.is_usable() && anchor.store != store_) {
    std::vector<std::string> others;
    for (const auto& each : anchor.entries) {
      if (rows_.find(each.second.session) == nullptr) others.push_back(each.second.session);
    }
    say(true, "the anchor beside it is another store's.");
    lose(std::move(others));
  }
  go_on_with(anchor);
}

// Uses the anchor that is there if it is complete; else make_ready() makes a new one.
void StoreFile::go_on_with(const Anchor::Found& anchor) {
  const bool new_store = rows_.sums().rows == 0 && commit_ <= 1;
  if (anchor.health == Anchor::Health::kMissing && !new_store) {
    say(true,
        "it has no anchor: whether its log is complete is not known. It is believed, and an "
        "anchor is made.");
  }
  if (anchor.store != store_) return;
  const bool behind = commit_ > anchor.used + 1;
  if (behind) say(true, "its anchor is older than the database, which is whole; it is made anew.");
  used_ = std::max(used_, anchor.used + 1);
  if (behind || anchor.health != Anchor::Health::kGood) return;
  auto resumed = Anchor::resume(paths_.anchor, anchor);
  if (!resumed || resumed->wants_rewrite()) return;
  AnchorChanges newer;  // what the commit has changed that was under way when the process died
  for (const auto& [birth, entry] : anchor.entries) {
    const RowIndex::Row* row = rows_.find(entry.session);
    if (row == nullptr || row->birth != birth) newer.drop(birth);
  }
  for (const auto& [session, row] : rows_.committed()) {
    const auto entry = anchor.entries.find(row.birth);
    if (entry == anchor.entries.end() || entry->second.proof != row.proof) {
      newer.put(session, row.birth, row.number, row.proof);
    }
  }
  for (const auto& [session, row] : rows_.stale()) {
    newer.put(session, row.birth, row.number, row.proof);
    newer.mark_stale(row.birth);
  }
  if (commit_ > anchor.committed && !resumed->commit(commit_, newer)) return;
  if (!resumed->give_up(used_, {})) return;
  anchor_ = std::move(*resumed);
}

// ---- one that is not

void StoreFile::take_version_1() {
  store_ = os::random_word();
  in_file_.reset();
  auto old = std::make_unique<Version1>(std::move(db_));
  std::vector<std::string> stale;
  for (Version1::Row& row : old->take_rows()) {
    if (stale_list_.had(row.record.birth)) {
      stale.push_back(std::move(row.record.session));
      continue;
    }
    rows_.put(row.record.session, {0, row.record.birth, row.record.number, 0, row.bytes});
    found_.push_back(std::move(row.record));
  }
  rows_.commit();
  say(true,
      fmt::format("it is of version 1 and is brought into a new file ({} sessions). Version 1 "
                  "has no proof that a snapshot is the latest; they are believed this once.",
                  found_.size()));
  lose(std::move(stale));
  lose(old->take_lost());
  source_ = std::move(old);
  aside_ = ".version-1";
}

// The rows that the anchor names and that can be read. The anchor must be complete.
void StoreFile::save_rows(const std::string& why, const Anchor::Found& anchor) {
  ++set_aside_;
  aside_ = StorePaths::aside_suffix();
  say(true, fmt::format("the database is damaged: {}.", why));
  std::set<std::string> lost;
  Witness witness{.store = anchor.store, .rows = {}, .last_commit = anchor.used};
  witness.may_be_behind = true;
  for (const auto& [birth, entry] : anchor.entries) {
    if (entry.mark == Anchor::Mark::kTold || entry.session.empty()) continue;
    lost.insert(entry.session);
    if (entry.mark == Anchor::Mark::kStale || stale_list_.had(birth)) continue;
    witness.rows.emplace(birth, Witness::Row{entry.session, entry.proof});
  }
  std::unique_ptr<Salvage> salvage;
  if (anchor.is_usable()) {
    salvage = std::make_unique<Salvage>(paths_.database, paths_.log, witness);
  }
  if (!salvage || salvage->is_contradicted()) {
    say(true, "its anchor does not say all that was acknowledged: nothing is proven.");
    salvage.reset();
    lost.merge([names = Salvage::names(paths_.database, paths_.log)] {
      return std::set<std::string>(names.begin(), names.end());
    }());
  }
  store_ = salvage ? anchor.store : os::random_word();
  used_ = salvage ? anchor.used : 0;
  if (salvage) {
    for (Salvage::Saved& saved : salvage->take_saved()) {
      lost.erase(saved.record.session);
      rows_.put(saved.record.session,
                {0, saved.record.birth, saved.record.number, saved.proof, saved.bytes});
      found_.push_back(std::move(saved.record));
    }
    rows_.commit();
  }
  const std::vector<std::string> names(lost.begin(), lost.end());
  tell_loss(found_.size(), names);
  lost_.insert(lost_.end(), names.begin(), names.end());
  source_ = std::move(salvage);
}

// A row that cannot be marked as out of date must not be served: a later run could serve it again.
void StoreFile::lose_unread(const Anchor::Found& anchor) {
  store_ = os::random_word();
  aside_ = StorePaths::aside_suffix();
  std::set<std::string> names;
  for (const auto& each : anchor.entries) names.insert(each.second.session);
  if (!anchor.is_usable()) {
    for (std::string& name : Salvage::names(paths_.database, paths_.log)) {
      names.insert(std::move(name));
    }
  }
  names.erase("");
  say(true,
      "the file system is read-only. What is stored here is not served, because nothing can "
      "keep it from coming back when it is out of date.");
  lose({names.begin(), names.end()});
}

// ---- the end of the start

void StoreFile::lose(std::vector<std::string> names) {
  if (names.empty()) return;
  std::ranges::sort(names);
  tell_loss(found_.size(), names);
  std::ranges::move(names, std::back_inserter(lost_));
}

// Nothing can be written, so a snapshot cannot even be marked as out of date.
void StoreFile::lose_all() {
  std::vector<std::string> names;
  for (Record& record : found_) names.push_back(std::move(record.session));
  found_.clear();
  if (state_ == State::kOpen) {
    rows_.outdate_all();
  } else {
    rows_ = {};
    source_.reset();
  }
  lose(std::move(names));
}

void StoreFile::settle(const Anchor::Found& anchor) {
  const bool damaged = state_ != State::kOpen;
  int code = make_ready();
  if (code == SQLITE_OK && (!rows_.stale().empty() || !stale_list_.empty())) {
    code = begin();
    if (code == SQLITE_OK) code = commit();
    if (code != SQLITE_OK) rollback();
  }
  if (code == SQLITE_OK) return;
  const std::string why = error_;
  if (damaged && !anchor_.is_open() && anchor.is_usable() && anchor.store == store_) {
    if (auto resumed = Anchor::resume(paths_.anchor, anchor)) anchor_ = std::move(*resumed);
    // The next run finds the same sessions, and must not report them again.
    AnchorChanges told;
    for (const auto& [birth, entry] : anchor.entries) {
      const RowIndex::Row* row = rows_.find(entry.session);
      if (row == nullptr || row->birth != birth) told.mark_told(birth);
    }
    if (!told.empty()) static_cast<void>(anchor_.give_up(used_, told));
  }
  if (!stale_list_.is_open() && !anchor_.is_open()) lose_all();
  down_ = true;
  error_ = why;
  say(true, fmt::format("snapshots cannot be stored: {}; sessions go on without.", why));
}

}  // namespace keelback::store
