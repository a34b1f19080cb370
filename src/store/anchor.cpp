#include "store/anchor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "store/proof.h"

namespace keelback::store {
namespace {

constexpr std::uint64_t kMagic = 0x48434e414c45454bULL;  // "KEELANCH"
constexpr std::uint64_t kHeaderKey = 0;
constexpr std::uint64_t kStep = 64 << 10;            // blocks are taken in these
constexpr std::uint64_t kFileBytesMax = 1ULL << 30;  // ten million sessions
constexpr std::uint64_t kRewriteBytes = 1 << 20;     // a shorter one is never rewritten

// As they lie in memory: the file is read on the machine that wrote it.
struct Header {
  std::uint64_t magic = kMagic;
  std::uint32_t version = Anchor::kVersion;
  std::uint32_t zero = 0;
  std::uint64_t store = 0;
  std::uint64_t base = 0;  // bytes of header and base
  std::uint64_t check = 0;

  std::uint64_t sum() const {
    return Proof(kHeaderKey).number(version).number(store).number(base).value();
  }
};
enum class RecordKind : std::uint32_t { kBase = 1, kCommit = 2, kGivenUp = 3 };
struct RecordHead {
  std::uint64_t check = 0;
  std::uint64_t number = 0;
  std::uint64_t from = 0;  // of kGivenUp
  std::uint32_t bytes = 0;
  RecordKind kind = RecordKind::kBase;

  std::uint64_t sum(std::uint64_t store, std::uint64_t at, std::string_view body) const {
    return Proof(store)
        .number(at)
        .number(number)
        .number(from)
        .number(static_cast<std::uint64_t>(kind))
        .bytes(body)
        .value();
  }
};
enum class Op : std::uint8_t { kDrop = 1, kPut = 2, kStale = 3, kTold = 4 };
struct OpHead {
  Op op = Op::kDrop;
  std::uint8_t zero = 0;
  std::uint16_t name = 0;  // bytes of it, behind PutHead
};
struct PutHead {
  std::uint64_t number = 0;
  std::uint64_t proof = 0;
};

template <typename T>
void append_raw(std::string& to, const T& value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}
template <typename T>
bool take_raw(std::string_view& from, T& value) {
  if (from.size() < sizeof value) return false;
  std::memcpy(&value, from.data(), sizeof value);
  from.remove_prefix(sizeof value);
  return true;
}

std::string encode(std::uint64_t store, std::uint64_t at, RecordHead head,
                   const AnchorChanges& changes) {
  head.bytes = static_cast<std::uint32_t>(changes.bytes().size());
  head.check = head.sum(store, at, changes.bytes());
  std::string record;
  record.reserve(sizeof head + changes.bytes().size() + 8);
  append_raw(record, head);
  record += changes.bytes();
  record.resize((record.size() + 7) / 8 * 8);
  return record;
}

// Takes one change from the front of `body`. False: there is none.
bool take_change(std::string_view& body, std::uint64_t number, Anchor::Found& found) {
  OpHead head;
  std::uint64_t birth = 0;
  if (!take_raw(body, head) || !take_raw(body, birth)) return false;
  switch (head.op) {
    case Op::kDrop:
      found.entries.erase(birth);
      return true;
    case Op::kPut: {
      PutHead put;
      if (!take_raw(body, put) || body.size() < head.name) return false;
      found.entries[birth] = {.session = std::string(body.substr(0, head.name)),
                              .number = put.number,
                              .proof = put.proof};
      body.remove_prefix(head.name);
      return true;
    }
    case Op::kStale:
    case Op::kTold: {
      Anchor::Entry& entry = found.entries[birth];
      entry.mark = head.op == Op::kTold ? Anchor::Mark::kTold : Anchor::Mark::kStale;
      entry.marked_at = number;
      return true;
    }
  }
  return false;
}

// The bytes of the record at `at` of `file`, if it is one; 0: it is none.
std::uint64_t read_record(std::string_view file, std::uint64_t at, Anchor::Found& found) {
  std::string_view rest = file.substr(at);
  RecordHead head;
  if (!take_raw(rest, head) || rest.size() < head.bytes) return 0;
  if (head.kind < RecordKind::kBase || head.kind > RecordKind::kGivenUp) return 0;
  std::string_view body = rest.substr(0, head.bytes);
  if (head.check != head.sum(found.store, at, body)) return 0;
  while (take_change(body, head.number, found)) {
  }
  found.used = std::max(found.used, head.number);
  if (head.kind == RecordKind::kGivenUp) {
    found.void_from = head.from;
  } else {
    found.committed = std::max(found.committed, head.number);
    found.void_from = 0;
  }
  return (sizeof head + head.bytes + 7) / 8 * 8;
}

// Records follow each other without a gap. What follows the last one is zero, unless a write was
// cut.
void read_records(std::string_view file, Anchor::Found& found) {
  bool zero = true;
  std::uint64_t at = found.bytes;
  while (at < file.size()) {
    if (const std::uint64_t bytes = read_record(file, at, found); bytes > 0) {
      if (at != found.bytes) found.health = Anchor::Health::kDamaged;
      at = std::min<std::uint64_t>(at + bytes, file.size());
      found.bytes = at;
      zero = true;
      continue;
    }
    zero = zero && file.substr(at, 8).find_first_not_of('\0') == file.npos;
    at += 8;
  }
  if (found.bytes < found.base) found.health = Anchor::Health::kDamaged;
  if (!zero && found.health == Anchor::Health::kGood) found.health = Anchor::Health::kTorn;
}

// nullopt: there is none. Empty: it cannot be read.
std::optional<std::string> read_file(const std::string& path) {
  const os::Fd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return errno == ENOENT ? std::nullopt : std::optional(std::string());
  struct stat stat{};
  if (::fstat(fd.get(), &stat) != 0 || !S_ISREG(stat.st_mode)) return std::string();
  if (static_cast<std::uint64_t>(stat.st_size) > kFileBytesMax) return std::string();
  std::string bytes(static_cast<std::size_t>(stat.st_size), '\0');
  std::size_t got = 0;
  while (got < bytes.size()) {
    const ssize_t n =
        ::pread(fd.get(), bytes.data() + got, bytes.size() - got, static_cast<off_t>(got));
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  bytes.resize(got);
  return bytes;
}

os::Result<void> write_all(int fd, std::string_view bytes, std::uint64_t at) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (n < 0) return os::last_failure();
    bytes.remove_prefix(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
  return {};
}

os::Result<void> take_blocks(int fd, std::uint64_t bytes) {
  const int error = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  return error == 0 ? os::Result<void>() : os::failure(error);
}

}  // namespace

// ---- what a record says

void AnchorChanges::drop(std::uint64_t birth) {
  append_raw(bytes_, OpHead{Op::kDrop, 0, 0});
  append_raw(bytes_, birth);
}
void AnchorChanges::put(std::string_view session, std::uint64_t birth, std::uint64_t number,
                        std::uint64_t proof) {
  append_raw(bytes_, OpHead{Op::kPut, 0, static_cast<std::uint16_t>(session.size())});
  append_raw(bytes_, birth);
  append_raw(bytes_, PutHead{number, proof});
  bytes_ += session;
}
void AnchorChanges::mark_stale(std::uint64_t birth) {
  append_raw(bytes_, OpHead{Op::kStale, 0, 0});
  append_raw(bytes_, birth);
}
void AnchorChanges::mark_told(std::uint64_t birth) {
  append_raw(bytes_, OpHead{Op::kTold, 0, 0});
  append_raw(bytes_, birth);
}

// ---- reading

Anchor::Found Anchor::read(const std::string& path) {
  Found found;
  const std::optional<std::string> file = read_file(path);
  if (!file) return found;
  found.health = Health::kDamaged;
  std::string_view rest = *file;
  Header header;
  if (!take_raw(rest, header) || header.magic != kMagic || header.check != header.sum()) {
    return found;
  }
  found.version = header.version;
  if (header.version > kVersion) return found.health = Health::kLater, found;
  found.health = Health::kGood;
  found.store = header.store;
  found.base = header.base;
  found.bytes = sizeof header;
  read_records(*file, found);
  return found;
}

// ---- writing

os::Result<Anchor> Anchor::make(const std::string& path, std::uint64_t store,
                                std::uint64_t committed, const AnchorChanges& contents) {
  const std::string fresh = path + "-new";
  ::unlink(fresh.c_str());
  Anchor anchor;
  anchor.fd_ = os::Fd(::open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!anchor.fd_) return os::last_failure();
  anchor.store_ = store;
  anchor.committed_ = committed;
  const std::string base =
      encode(store, sizeof(Header), {.number = committed, .kind = RecordKind::kBase}, contents);
  anchor.base_ = anchor.end_ = sizeof(Header) + base.size();
  Header header;
  header.store = store;
  header.base = anchor.base_;
  header.check = header.sum();
  std::string bytes;
  append_raw(bytes, header);
  bytes += base;
  anchor.taken_ = anchor.end_ + kReserve;
  auto done = take_blocks(anchor.fd_.get(), anchor.taken_);
  if (done) done = write_all(anchor.fd_.get(), bytes, 0);
  // After a power failure the file must not have its new name without its bytes.
  if (done && ::fdatasync(anchor.fd_.get()) != 0) done = os::last_failure();
  if (done && ::rename(fresh.c_str(), path.c_str()) != 0) done = os::last_failure();
  if (done) return anchor;
  ::unlink(fresh.c_str());
  return std::unexpected(done.error());
}

os::Result<Anchor> Anchor::resume(const std::string& path, const Found& found) {
  Anchor anchor;
  anchor.fd_ = os::Fd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!anchor.fd_) return os::last_failure();
  struct stat stat{};
  if (::fstat(anchor.fd_.get(), &stat) != 0) return os::last_failure();
  anchor.store_ = found.store;
  anchor.committed_ = found.committed;
  anchor.base_ = found.base;
  anchor.end_ = found.bytes;
  anchor.taken_ = static_cast<std::uint64_t>(stat.st_size);
  return anchor;
}

os::Result<void> Anchor::append(std::string_view record) {
  if (auto written = write_all(fd_.get(), record, end_); !written) {
    fd_.reset();  // from now on the anchor would be incomplete
    return written;
  }
  end_ += record.size();
  taken_ = std::max(taken_, end_);
  return {};
}

os::Result<void> Anchor::reserve(const AnchorChanges& changes) {
  const std::uint64_t needed = end_ + sizeof(RecordHead) + changes.bytes().size() + 8 + kReserve;
  if (needed <= taken_) return {};
  if (needed > kFileBytesMax) return os::failure(EFBIG);
  const std::uint64_t bytes = std::max(needed, taken_ + kStep);
  auto taken = take_blocks(fd_.get(), bytes);
  if (taken) taken_ = bytes;
  return taken;
}

os::Result<void> Anchor::commit(std::uint64_t number, const AnchorChanges& changes) {
  if (!fd_) return os::failure(EBADF);
  auto written =
      append(encode(store_, end_, {.number = number, .kind = RecordKind::kCommit}, changes));
  if (!written) return written;
  committed_ = number;
  replaceable_ = 0;
  return {};
}

os::Result<void> Anchor::give_up(std::uint64_t number, const AnchorChanges& marks) {
  if (!fd_) return os::failure(EBADF);
  const std::uint64_t at = replaceable_ > 0 && marks.empty() ? replaceable_ : end_;
  end_ = at;
  auto written = append(encode(
      store_, at, {.number = number, .from = committed_ + 1, .kind = RecordKind::kGivenUp}, marks));
  if (written) replaceable_ = marks.empty() ? at : 0;
  return written;
}

bool Anchor::wants_rewrite() const { return end_ > kRewriteBytes && end_ > 4 * base_; }

}  // namespace keelback::store
