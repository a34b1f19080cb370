#include "store/sqlite_store.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sqlite3.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace keelback::store {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBatchMax = 512;                  // in one transaction
constexpr std::uint64_t kQueuedBytesMax = 64ULL << 20;  // not yet written; more is refused
constexpr auto kPauseFirst = 100ms;                     // after a failure
constexpr auto kPauseMax = 5s;

}  // namespace

SqliteStore::SqliteStore(Options options)
    : options_(std::move(options)),
      bytes_max_(options_.bytes_max),
      file_(options_.path, options_.pages_max, options_.notice) {
  status_.name = "sqlite:" + options_.path;
}

SqliteStore::~SqliteStore() { close(); }

void SqliteStore::say(bool warn, const std::string& text) const {
  if (options_.notice) options_.notice(warn, text);
}

// ---- opening

std::expected<std::unique_ptr<SqliteStore>, std::string> SqliteStore::open(Options options) {
  std::unique_ptr<SqliteStore> store(new SqliteStore(std::move(options)));
  if (auto begun = store->begin(); !begun) return std::unexpected(begun.error());
  store->thread_ = std::thread([raw = store.get()] {
    ::pthread_setname_np(::pthread_self(), "keelback-store");
    raw->run();
  });
  return store;
}

// The first request to a file that cannot be written to tries again.
std::expected<void, std::string> SqliteStore::begin() {
  if (auto opened = file_.open(); !opened) return opened;
  down_ = file_.is_down();
  status_.up = !down_;
  if (down_) status_.error = file_.error();
  status_.set_aside = file_.set_aside();
  status_.sessions = file_.rows().committed().size();
  status_.bytes = file_.rows().sums().bytes;
  return {};
}

// ---- any thread

std::vector<Record> SqliteStore::take_found() { return file_.take_found(); }

std::vector<std::string> SqliteStore::take_lost() { return file_.take_lost(); }

void SqliteStore::enqueue(Work work, std::uint64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    queued_bytes_ += bytes;
    queue_.push_back(std::move(work));
  }
  wake_.notify_one();
}

std::optional<bool> SqliteStore::keep(Record record, Done done) {
  Work work{.record = std::move(record), .done = std::move(done)};
  const std::uint64_t bytes = bytes_of(work.record);
  bool refused = false;
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return false;
    refused = queued_bytes_ + bytes > kQueuedBytesMax && !queue_.empty();
  }
  if (!refused) {
    enqueue(std::move(work), bytes);
    return std::nullopt;
  }
  // The disk is too slow. Now the stored row of the session is out of date.
  work.refused = true;
  work.record.snapshot.state = nullptr;
  work.record.answer = {};
  enqueue(std::move(work), 0);
  return std::nullopt;
}

std::optional<bool> SqliteStore::drop(std::string session, std::uint64_t birth, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return false;
  }
  Work work{.kind = Work::Kind::kDrop, .done = std::move(done)};
  work.record.session = std::move(session);
  work.record.birth = birth;
  enqueue(std::move(work), 0);
  return std::nullopt;
}

std::optional<Fetched> SqliteStore::fetch(const std::string& session, std::uint64_t birth,
                                          std::uint64_t number, OnFetched done) {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return Fetched{.gone = false, .snapshot = {}};
  }
  Work work{.kind = Work::Kind::kFetch, .fetched = std::move(done)};
  work.record.session = session;
  work.record.birth = birth;
  work.record.number = number;
  enqueue(std::move(work), 0);
  return std::nullopt;
}

void SqliteStore::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  if (!thread_.joinable()) return;
  thread_.join();
  file_.close();
}

Status SqliteStore::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

// ---- the thread

void SqliteStore::run() {
  std::vector<Work> batch;
  for (;;) {
    batch.clear();
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      while (!queue_.empty() && batch.size() < kBatchMax) {
        batch.push_back(std::move(queue_.front()));
        queue_.pop_front();
        if (batch.back().kind == Work::Kind::kKeep) {
          queued_bytes_ -= std::min(queued_bytes_, bytes_of(batch.back().record));
        }
      }
    }
    perform(batch);
    for (Work& work : batch) {
      if (work.done) work.done(work.ok);
      if (work.fetched) work.fetched(std::move(work.found));
    }
  }
}

void SqliteStore::perform(std::vector<Work>& batch) {
  if (down_ && std::chrono::steady_clock::now() < retry_at_) return fail(batch, SQLITE_OK);
  const int code = transact(batch);
  code == SQLITE_OK ? commit_done(batch) : fail(batch, code);
}

int SqliteStore::transact(std::vector<Work>& batch) {
  int code = attempt(batch);
  if (is_damage(code)) {
    code = file_.mend();
    if (code == SQLITE_OK) code = attempt(batch);
  }
  if (code != SQLITE_OK) {
    const std::lock_guard lock(mutex_);
    status_.error = file_.error();
  }
  return code;
}

int SqliteStore::attempt(std::vector<Work>& batch) {
  int code = file_.begin();
  for (Work& work : batch) {
    if (code != SQLITE_OK) break;
    code = perform(work);
  }
  if (code == SQLITE_OK) code = file_.commit();
  if (code != SQLITE_OK) file_.rollback();
  return code;
}

int SqliteStore::perform(Work& work) {
  const std::string& session = work.record.session;
  switch (work.kind) {
    case Work::Kind::kFetch:
      return read(work);
    case Work::Kind::kDrop:
      return file_.remove_birth(session, work.record.birth);
    case Work::Kind::kKeep:
      break;
  }
  const RowIndex::Row* row = file_.rows().find(session);
  const std::uint64_t before = row != nullptr ? row->bytes : 0;
  const std::uint64_t bytes = file_.rows().staged().bytes - before + bytes_of(work.record);
  work.refused = work.refused || bytes > bytes_max_;
  return work.refused ? file_.remove(session) : file_.put(work.record);
}

int SqliteStore::read(Work& work) {
  const Record& wanted = work.record;
  bool damaged = false;
  const int code = file_.read(wanted.session, wanted.birth, wanted.number, work.found, damaged);
  return damaged && code == SQLITE_OK ? file_.set_row_aside(wanted.session) : code;
}

// A file that cannot be written to can often be read.
void SqliteStore::read_only(Work& work) {
  const Record& wanted = work.record;
  bool damaged = false;
  const int code = file_.read(wanted.session, wanted.birth, wanted.number, work.found, damaged);
  if (!damaged && !is_damage(code)) return;
  static_cast<void>(file_.invalidate(wanted.session, wanted.birth));
}

// ---- after a transaction

void SqliteStore::commit_done(std::vector<Work>& batch) {
  std::uint64_t failed = 0;
  for (Work& work : batch) {
    work.ok = !work.refused;
    failed += work.refused;
  }
  const bool refused = failed > 0;
  if (std::exchange(down_, false)) say(false, options_.path + ": snapshots are stored again.");
  if (refused && !full_) {
    say(true, fmt::format("{}: there is no room for a snapshot (sessions.store_max); sessions go "
                          "on without.",
                          options_.path));
  }
  full_ = refused;
  pause_ = 0ms;
  const std::lock_guard lock(mutex_);
  status_.up = true;
  status_.error = refused ? "full (sessions.store_max)" : "";
  status_.failed += failed;
  publish();
}

// No request of the batch was done. code SQLITE_OK: none was tried either.
void SqliteStore::fail(std::vector<Work>& batch, int code) {
  if (code != SQLITE_OK) {
    pause_ = std::clamp<std::chrono::milliseconds>(pause_ * 2, kPauseFirst, kPauseMax);
    retry_at_ = std::chrono::steady_clock::now() + pause_;
  }
  std::uint64_t failed = 0;
  bool sure = true;
  for (Work& work : batch) {
    work.ok = false;
    if (work.kind == Work::Kind::kFetch) {
      read_only(work);
      continue;
    }
    ++failed;
    const bool safe = file_.invalidate(work.record.session, work.record.birth);
    if (work.kind == Work::Kind::kDrop) work.ok = safe;
    sure = sure && safe;
  }
  file_.note_invalidated();
  std::string error;
  {
    const std::lock_guard lock(mutex_);
    status_.up = false;
    status_.failed += failed;
    publish();
    error = status_.error;
  }
  if (!sure) {
    say(true, fmt::format("{}: it cannot even be written down which snapshots are out of date; a "
                          "crash now may bring one of them back.",
                          options_.path));
  }
  if (std::exchange(down_, true)) return;
  say(true, fmt::format("{}: snapshots cannot be stored: {}; sessions go on without.",
                        options_.path, error));
}

// Under mutex_: the status of the file.
void SqliteStore::publish() {
  status_.sessions = file_.rows().committed().size();
  status_.bytes = file_.rows().sums().bytes;
  status_.set_aside = file_.set_aside();
}

}  // namespace keelback::store
