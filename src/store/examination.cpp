#include "store/examination.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <optional>
#include <utility>

#include "store/version_1.h"

namespace keelback::store {
namespace {

// A longer file is not read completely at the start. Damage in the rest is found when that is read.
constexpr std::uint64_t kCheckedBytesMax = 256ULL << 20;

class Examiner {
 public:
  Examiner(const StorePaths& paths, const Anchor::Found& anchor, Connection& db, SessionRows& rows)
      : paths_(paths), anchor_(anchor), db_(db), rows_(rows) {}

  Examined examine() {
    if (paths_.is_read_only()) return {.verdict = Verdict::kReadOnly};
    if (paths_.log_is_no_file()) return damaged("its log is no file");
    if (paths_.database_bytes() == 0) {
      const bool nothing = anchor_.entries.empty() && anchor_.health != Anchor::Health::kDamaged;
      if (nothing && paths_.log_bytes() == 0) return {.verdict = Verdict::kNone};
      return damaged("there is a log or an anchor, but no database");
    }
    std::string error;
    const int code = db_.connect(paths_.database, error);
    if (code == SQLITE_OK) return examine_header();
    if (is_busy(code)) return refused(std::string(kInUse));
    if (is_damage(code)) return damaged(std::move(error));
    switch (code & 0xff) {
      case SQLITE_IOERR:  // errors of locks and others that are not about the bytes of the file
      case SQLITE_PERM:
      case SQLITE_AUTH:
      case SQLITE_CANTOPEN:
      case SQLITE_NOMEM:
        return refused(std::move(error));
      default:
        return damaged(std::move(error));
    }
  }

 private:
  // A file that has a good anchor beside it is ours, whatever its header says.
  Examined examine_header() {
    const std::int64_t id = db_.number("PRAGMA application_id", -1);
    const std::int64_t version = db_.number("PRAGMA user_version", -1);
    if (id == kApplicationId && version == kVersion) return prove();
    if (anchor_.is_usable()) return damaged("its header is damaged");
    if (id == 0 && db_.number("SELECT count(*) FROM sqlite_master", -1) == 0) {
      close();
      if (!anchor_.entries.empty()) return damaged("it is empty");
      return {.verdict = Verdict::kNone};
    }
    // Version 1 has no anchor. One of the two numbers may be damaged.
    const bool is_first = id == kApplicationId || version == Version1::kVersion;
    if (is_first && Version1::has_tables(db_)) return {.verdict = Verdict::kVersion1};
    if (id != kApplicationId) return refused("it is a database of another program");
    return refused(of_later_version(static_cast<std::uint64_t>(version)));
  }

  Examined prove() {
    if (!rows_.has_tables()) return damaged("its tables are not a store's");
    if (paths_.database_bytes() <= kCheckedBytesMax) {
      if (std::string wrong = rows_.check(); !wrong.empty()) return damaged(std::move(wrong));
    }
    const auto totals = rows_.totals();
    if (!totals) return damaged("its totals are damaged");
    if (totals->store == anchor_.store && totals->commit < anchor_.committed) {
      return damaged(fmt::format("it ends with commit {}, and commit {} was acknowledged",
                                 totals->commit, anchor_.committed));
    }
    auto rows = rows_.load(*totals);
    if (!rows) return damaged("its rows are not those that its totals say");
    if (!rows_.prepare()) return damaged(db_.error());
    return {.verdict = Verdict::kWhole, .why = {}, .totals = *totals, .rows = std::move(*rows)};
  }

  Examined damaged(std::string why) {
    close();
    return {.verdict = Verdict::kDamaged, .why = std::move(why)};
  }
  static Examined refused(std::string why) {
    return {.verdict = Verdict::kRefused, .why = std::move(why)};
  }
  void close() {
    rows_.reset();
    db_.close();
  }

  const StorePaths& paths_;
  const Anchor::Found& anchor_;
  Connection& db_;
  SessionRows& rows_;
};

}  // namespace

std::string of_later_version(std::uint64_t version) {
  return fmt::format("it has version {}, and this Keelback knows version {}", version, kVersion);
}

Examined examine(const StorePaths& paths, const Anchor::Found& anchor, Connection& db,
                 SessionRows& rows) {
  return Examiner(paths, anchor, db, rows).examine();
}

}  // namespace keelback::store
