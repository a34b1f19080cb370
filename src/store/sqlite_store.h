// Snapshots in a SQLite file: a session survives the supervisor.
//
// One thread of its own does all the work. What has piled up while it wrote goes into its next
// transaction (group commit), in WAL mode with a sync at each commit: what was answered is on the
// disk, whatever dies. The file is locked for as long as the store lives; a second owner is
// refused.
//
// Damage of one of its files never keeps the store from opening, and never brings an older state
// back (store_file.h): what is proven is found, the rest is told as lost, and the damaged file
// stays under another name. A row whose state turns out to be damaged when it is read is moved to
// the table set_aside. While the disk is full or fails, the store says no, tries again now and
// then, and remembers beside the file (stale_list.h) which rows are out of date, so that not even
// the next run will find them: it reports their sessions as lost. A disk that is full at the start
// is no different: what is good can be read, nothing is stored, and what has to be written first is
// written when there is room.
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
  // Blocks: reads what is there. The error is one sentence: somebody else owns the file, a later
  // version wrote it, it is another program's, or it may not be opened. Damage is none, nor is a
  // disk that cannot be written to: status() says so.
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
