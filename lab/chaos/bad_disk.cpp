#include "chaos/bad_disk.h"

#include <sqlite3.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <thread>

namespace keelback::chaos {
namespace {

// SQLite takes plain functions, so what they look at is the process's.
std::atomic<int> g_error = 0;
std::atomic<std::int64_t> g_delay_ns = 0;
std::atomic<std::uint64_t> g_hits = 0;

using Pwrite = ssize_t (*)(int, const void*, std::size_t, off_t);
using Write = ssize_t (*)(int, const void*, std::size_t);
sqlite3_syscall_ptr g_pwrite = nullptr, g_pwrite64 = nullptr, g_write = nullptr;

// True: errno says why the write does not happen.
bool spoilt() {
  const std::int64_t delay = g_delay_ns;
  const int error = g_error;
  if (delay == 0 && error == 0) return false;
  ++g_hits;
  if (delay > 0) std::this_thread::sleep_for(Duration(delay));
  errno = error;
  return error != 0;
}

ssize_t bad_pwrite(int fd, const void* data, std::size_t bytes, off_t at) {
  return spoilt() ? -1 : reinterpret_cast<Pwrite>(g_pwrite)(fd, data, bytes, at);
}
ssize_t bad_pwrite64(int fd, const void* data, std::size_t bytes, off_t at) {
  return spoilt() ? -1 : reinterpret_cast<Pwrite>(g_pwrite64)(fd, data, bytes, at);
}
ssize_t bad_write(int fd, const void* data, std::size_t bytes) {
  return spoilt() ? -1 : reinterpret_cast<Write>(g_write)(fd, data, bytes);
}

struct SystemCall {
  const char* name;
  sqlite3_syscall_ptr& usual;
  sqlite3_syscall_ptr bad;
};
SystemCall system_calls[] = {
    {"pwrite", g_pwrite, reinterpret_cast<sqlite3_syscall_ptr>(bad_pwrite)},
    {"pwrite64", g_pwrite64, reinterpret_cast<sqlite3_syscall_ptr>(bad_pwrite64)},
    {"write", g_write, reinterpret_cast<sqlite3_syscall_ptr>(bad_write)}};

}  // namespace

BadDisk::BadDisk() {
  sqlite3_initialize();
  sqlite3_vfs* vfs = sqlite3_vfs_find(nullptr);
  for (SystemCall& call : system_calls) {
    call.usual = vfs->xGetSystemCall(vfs, call.name);
    // A build of SQLite uses one of pwrite and pwrite64; the other one has no function.
    if (call.usual != nullptr) vfs->xSetSystemCall(vfs, call.name, call.bad);
  }
}

BadDisk::~BadDisk() {
  mend();
  sqlite3_vfs* vfs = sqlite3_vfs_find(nullptr);
  for (const SystemCall& call : system_calls) {
    if (call.usual != nullptr) vfs->xSetSystemCall(vfs, call.name, call.usual);
  }
}

void BadDisk::spoil(const DiskFault& fault) {
  fault_ = fault.fault;
  g_hits = 0;
  g_delay_ns = fault.delay.count();
  g_error = fault.error;
}

void BadDisk::mend() {
  g_error = 0;
  g_delay_ns = 0;
}

std::uint64_t BadDisk::hits(const std::string& fault) const {
  return fault == fault_ ? g_hits.load() : 0;
}

}  // namespace keelback::chaos
