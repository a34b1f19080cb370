// Snapshots in a SQLite file: a session survives the supervisor.
//
// A thread of the store does all the work. Requests that came while it wrote go into the next
// transaction (group commit). The file is in WAL mode with a sync at each commit, so that an answer
// means: it is on the disk. The store locks the file as long as it lives; a second owner is
// refused.
//
// If one of its files is damaged, the store still opens, and it never brings back an older state
// (store_file.h). It finds the rows that are proven, reports the other sessions as lost, and keeps
// the damaged file under another name. A row whose state proves to be damaged when it is read goes
// to the table set_aside.
//
// While the disk is full or fails, the store refuses to store and tries again from time to time. It
// writes down beside the file which rows are out of date (stale_list.h). The next run does not use
// these rows and reports their sessions as lost. The same is true if the disk is full at the start:
// good rows can be read, and what must be written first is written when there is room.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <expected>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "store/store.h"
#include "store/store_file.h"

namespace keelback::store {

class SqliteStore final : public Store {
 public:
  struct Options {
    std::string path;
    std::uint64_t bytes_max = 0;
    Notice notice;               // any thread; null: nobody reads
    std::int64_t pages_max = 0;  // of the file; 0: as many as the disk takes
  };
  // Blocks while it reads the file. The error is one sentence: another process owns the file, a
  // later version or another program wrote it, or it may not be opened. Damage and a disk that
  // cannot be written to are no errors here: status() reports them.
  static std::expected<std::unique_ptr<SqliteStore>, std::string> open(Options options);
  ~SqliteStore() override;

  std::optional<bool> keep(Record record, Done done) override;
  std::optional<bool> drop(std::string session, std::uint64_t birth, Done done) override;
  std::optional<Fetched> fetch(const std::string& session, std::uint64_t birth,
                               std::uint64_t number, OnFetched done) override;
  std::vector<Record> take_found() override;
  std::vector<std::string> take_lost() override;
  void close() override;
  void set_bytes_max(std::uint64_t bytes) override { bytes_max_ = bytes; }
  Status status() const override;

 private:
  struct Work {
    enum class Kind : std::uint8_t { kKeep, kDrop, kFetch } kind = Kind::kKeep;
    Record record;  // of kDrop and kFetch: session, birth, number
    Done done;
    OnFetched fetched;
    // What came of it.
    bool ok = false;
    bool refused = false;  // no room
    Fetched found;
  };
  explicit SqliteStore(Options options);

  std::expected<void, std::string> begin();

  // ---- the thread
  void run();
  void perform(std::vector<Work>& batch);
  int transact(std::vector<Work>& batch);
  int attempt(std::vector<Work>& batch);
  int perform(Work& work);
  int read(Work& work);
  void read_only(Work& work);
  void commit_done(std::vector<Work>& batch);
  void fail(std::vector<Work>& batch, int code);
  void publish();
  void enqueue(Work work, std::uint64_t bytes);
  void say(bool warn, const std::string& text) const;

  const Options options_;
  std::atomic<std::uint64_t> bytes_max_;

  // ---- the thread's own, and before it open()'s
  StoreFile file_;
  bool down_ = false;
  bool full_ = false;
  std::chrono::steady_clock::time_point retry_at_{};
  std::chrono::milliseconds pause_{0};

  mutable std::mutex mutex_;  // what follows
  std::condition_variable wake_;
  std::deque<Work> queue_;
  std::uint64_t queued_bytes_ = 0;
  bool closing_ = false;
  Status status_;

  std::thread thread_;
};

}  // namespace keelback::store
