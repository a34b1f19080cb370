#include "os/memory.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/check.h"

namespace keelback::os {

Result<Fd> make_sealed_memfd(const char* name, std::size_t size) {
  if (int error = fault::next()) return failure(error);
  Fd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return last_failure();
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) < 0) return last_failure();
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
    return last_failure();
  }
  return fd;
}

Result<Fd> make_text_memfd(const char* name, std::string_view text) {
  if (int error = fault::next()) return failure(error);
  Fd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd) return last_failure();
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t put =
        ::pwrite(fd.get(), text.data() + at, text.size() - at, static_cast<off_t>(at));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return last_failure();
    at += static_cast<std::size_t>(put);
  }
  return fd;
}

Result<std::string> read_all(int fd, std::size_t size_max) {
  if (int error = fault::next()) return failure(error);
  std::string text;
  char piece[4096];
  while (text.size() < size_max) {
    const ssize_t got = ::pread(fd, piece, sizeof(piece), static_cast<off_t>(text.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return last_failure();
    if (got == 0) break;
    text.append(piece, static_cast<std::size_t>(got));
  }
  return text;
}

std::uint64_t available_memory() {
  constexpr std::string_view kKey = "MemAvailable:";
  const Fd fd(::open("/proc/meminfo", O_RDONLY | O_CLOEXEC));
  char text[1024];  // it is the third line
  const ssize_t got = fd ? ::read(fd.get(), text, sizeof text) : -1;
  const std::string_view all(text, got > 0 ? static_cast<std::size_t>(got) : 0);
  const std::size_t key = all.find(kKey);
  const std::size_t digits = all.find_first_not_of(' ', std::min(key, all.size()) + kKey.size());
  if (key == all.npos || digits == all.npos) return UINT64_MAX;
  std::uint64_t kib = 0;
  std::from_chars(all.data() + digits, all.data() + all.size(), kib);
  return kib << 10;
}

Result<Slab> Slab::create(std::size_t size) {
  // When memory runs out, fallocate does not fail: before that the kernel kills processes.
  if (size > available_memory() / 2) return failure(ENOMEM);
  auto fd = make_sealed_memfd("keelback-slab", size);
  if (!fd) return std::unexpected(fd.error());
  if (int error = fault::next()) return failure(error);
  if (::fallocate(fd->get(), 0, 0, static_cast<off_t>(size)) < 0) return last_failure();
  if (int error = fault::next()) return failure(error);
  void* data =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd->get(), 0);
  if (data == MAP_FAILED) return last_failure();
  Slab slab;
  slab.fd_ = std::move(*fd);
  slab.data_ = static_cast<char*>(data);
  slab.size_ = size;
  return slab;
}

Slab::Slab(Slab&& other) noexcept
    : fd_(std::move(other.fd_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

Slab& Slab::operator=(Slab&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Slab::~Slab() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void Slab::empty() {
  if (data_ != nullptr) ::madvise(data_, size_, MADV_REMOVE);
}

Result<Marks> Marks::create() {
  auto fd = make_sealed_memfd("keelback-marks", kBytes);
  if (!fd) return std::unexpected(fd.error());
  if (int error = fault::next()) return failure(error);
  void* page = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0);
  if (page == MAP_FAILED) return last_failure();
  Marks marks;
  marks.fd_ = std::move(*fd);
  marks.words_ = static_cast<std::uint64_t*>(page);
  return marks;
}

Marks::Marks(Marks&& other) noexcept
    : fd_(std::move(other.fd_)), words_(std::exchange(other.words_, nullptr)) {}

Marks& Marks::operator=(Marks&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(words_, other.words_);
  return *this;
}

Marks::~Marks() {
  if (words_ != nullptr) ::munmap(words_, kBytes);
}

std::uint64_t Marks::inode() const {
  struct stat info{};
  return ::fstat(fd_.get(), &info) == 0 ? info.st_ino : 0;
}

bool order_marks() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

std::string Marks::dump(std::size_t from) const {
  return text(std::min(kDumpOffset + from, kStackOffset), kStackOffset);
}

void Marks::expect_stack() {
  CHECK(words_ != nullptr);
  // Pages without contents read as zeros.
  ::madvise(reinterpret_cast<char*>(words_) + kStackOffset, kBytes - kStackOffset, MADV_REMOVE);
  ::lseek(fd_.get(), kStackOffset, SEEK_SET);
}

std::string Marks::stack() const { return text(kStackOffset, kBytes); }

std::string Marks::text(std::size_t begin, std::size_t end) const {
  auto text = std::string(end - begin, '\0');
  const ssize_t got = ::pread(fd_.get(), text.data(), text.size(), static_cast<off_t>(begin));
  text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

std::uint64_t Marks::load(std::size_t word) const {
  CHECK(words_ != nullptr);
  return std::atomic_ref(words_[word]).load(std::memory_order_acquire);
}

void Marks::store(std::size_t word, std::uint64_t value) {
  CHECK(words_ != nullptr);
  std::atomic_ref(words_[word]).store(value, std::memory_order_release);
}

}  // namespace keelback::os
