#include "store/raw_pages.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

namespace keelback::store {
namespace {

constexpr std::size_t kPage = RawPages::kPageBytes;
constexpr std::size_t kFileHead = 100;
constexpr std::size_t kLogHead = 32;
constexpr std::size_t kFrameHead = 24;
constexpr std::uint64_t kPayloadMax = 1'000'000'000;  // SQLite's own
constexpr unsigned char kTableLeaf = 0x0d;

unsigned char byte(std::string_view from, std::size_t at) {
  return static_cast<unsigned char>(from[at]);
}
std::uint32_t big_endian(std::string_view from, std::size_t at, std::size_t bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value = value << 8 | byte(from, at + i);
  return value;
}

// SQLite's integer of one to nine bytes. False: it is not all there.
bool take_varint(std::string_view from, std::size_t& at, std::uint64_t& value) {
  value = 0;
  for (int i = 0; i < 9; ++i) {
    if (at >= from.size()) return false;
    const unsigned char next = byte(from, at++);
    if (i == 8) {
      value = value << 8 | next;
      return true;
    }
    value = value << 7 | (next & 0x7f);
    if ((next & 0x80) == 0) return true;
  }
  return false;
}

std::uint64_t bytes_of_type(std::uint64_t type) {
  constexpr std::uint64_t kBytes[] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0};
  return type < 12 ? kBytes[type] : (type - 12) / 2;
}

// How many bytes of a payload are in the leaf.
std::uint64_t local_bytes(std::uint64_t payload) {
  constexpr std::uint64_t kMost = kPage - 35;
  constexpr std::uint64_t kLeast = (kPage - 12) * 32 / 255 - 23;
  if (payload <= kMost) return payload;
  const std::uint64_t local = kLeast + (payload - kLeast) % (kPage - 4);
  return local <= kMost ? local : kLeast;
}

os::Fd open_file(const std::string& path, std::uint64_t& bytes) {
  os::Fd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat stat{};
  if (!fd || ::fstat(fd.get(), &stat) != 0 || !S_ISREG(stat.st_mode)) return {};
  bytes = static_cast<std::uint64_t>(stat.st_size);
  return fd;
}

// What cannot be read (a bad sector, beyond the end) is zero.
void read_at(int fd, std::uint64_t at, std::string& bytes) {
  std::size_t got = 0;
  while (got < bytes.size()) {
    const ssize_t n =
        ::pread(fd, bytes.data() + got, bytes.size() - got, static_cast<off_t>(at + got));
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(got), bytes.end(), '\0');
}

}  // namespace

// ---- a row

std::optional<RawRecord> RawRecord::parse(std::string_view payload) {
  std::size_t at = 0;
  std::uint64_t head = 0;
  if (!take_varint(payload, at, head) || head < at || head > payload.size()) return std::nullopt;
  RawRecord record;
  record.payload_ = payload;
  std::uint64_t body = head;
  while (at < head) {
    std::uint64_t type = 0;
    if (!take_varint(payload.substr(0, head), at, type)) return std::nullopt;
    const std::uint64_t bytes = bytes_of_type(type);
    if (bytes > kPayloadMax) return std::nullopt;
    record.columns_.push_back({type, body, bytes});
    body += bytes;
  }
  return record;
}

std::optional<std::int64_t> RawRecord::integer(std::size_t column) const {
  if (column >= columns_.size()) return std::nullopt;
  const Column& found = columns_[column];
  if (found.type == 8 || found.type == 9) return static_cast<std::int64_t>(found.type - 8);
  if (found.type < 1 || found.type > 6 || found.at + found.bytes > payload_.size()) {
    return std::nullopt;
  }
  // The first byte has the sign.
  auto value = static_cast<std::uint64_t>(static_cast<signed char>(payload_[found.at]));
  for (std::size_t i = 1; i < found.bytes; ++i) value = value << 8 | byte(payload_, found.at + i);
  return static_cast<std::int64_t>(value);
}

std::optional<std::string_view> RawRecord::blob(std::size_t column) const {
  if (column >= columns_.size()) return std::nullopt;
  const Column& found = columns_[column];
  if (found.type < 12 || found.type % 2 != 0 || found.at + found.bytes > payload_.size()) {
    return std::nullopt;
  }
  return payload_.substr(found.at, found.bytes);
}

// ---- pages

RawPages::RawPages(const std::string& file, const std::string& log) {
  std::uint64_t file_bytes = 0;
  std::uint64_t log_bytes = 0;
  file_ = open_file(file, file_bytes);
  log_ = open_file(log, log_bytes);
  constexpr std::uint64_t kImagesMax = std::numeric_limits<Image>::max() / 2;
  file_images_ = static_cast<Image>(std::min((file_bytes + kPage - 1) / kPage, kImagesMax));
  const std::uint64_t frames =
      log_bytes < kLogHead ? 0 : (log_bytes - kLogHead) / (kFrameHead + kPage);
  images_ = file_images_ + static_cast<Image>(std::min(frames, kImagesMax));
  std::string head(kFrameHead, '\0');
  for (Image image = file_images_; image < images_; ++image) {
    read_at(log_.get(), kLogHead + std::uint64_t{image - file_images_} * (kFrameHead + kPage),
            head);
    in_log_[big_endian(head, 0, 4)].push_back(image);
    const bool ends_commit = big_endian(head, 4, 4) != 0 || image + 1 == images_;
    if (ends_commit) commit_.resize(image + 1 - file_images_, image);
  }
}

bool RawPages::read(Image image, std::string& page) const {
  if (image >= images_) return false;
  page.resize(kPage);
  if (image < file_images_) {
    read_at(file_.get(), std::uint64_t{image} * kPage, page);
  } else {
    const std::uint64_t frame = image - file_images_;
    read_at(log_.get(), kLogHead + frame * (kFrameHead + kPage) + kFrameHead, page);
  }
  return true;
}

std::optional<RawPages::Image> RawPages::image_of(std::uint32_t page, Image leaf) const {
  if (leaf >= file_images_) {
    if (const auto found = in_log_.find(page); found != in_log_.end()) {
      const Image until = commit_[leaf - file_images_];
      const auto after = std::ranges::upper_bound(found->second, until);
      if (after != found->second.begin()) return *std::prev(after);
    }
  }
  if (page == 0 || page > file_images_) return std::nullopt;
  return page - 1;
}

// nullopt: its place holds no cell.
std::vector<std::optional<RawPages::Cell>> RawPages::cells(std::string_view page, bool first) {
  std::vector<std::optional<Cell>> cells;
  const std::size_t head = first ? kFileHead : 0;
  if (byte(page, head) != kTableLeaf) return cells;
  const std::size_t count = big_endian(page, head + 3, 2);
  if (count > (kPage - head - 8) / 2) return cells;
  cells.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t at = big_endian(page, head + 8 + 2 * i, 2);
    Cell cell;
    std::uint64_t rowid = 0;
    if (!take_varint(page, at, cell.payload_bytes) || !take_varint(page, at, rowid)) continue;
    if (cell.payload_bytes > kPayloadMax) continue;
    const std::uint64_t local = local_bytes(cell.payload_bytes);
    const bool spills = local < cell.payload_bytes;
    if (at + local + (spills ? 4 : 0) > page.size()) continue;
    cell.local = page.substr(at, local);
    if (spills) cell.next = big_endian(page, at + local, 4);
    if (spills && cell.next == 0) continue;
    cells[i] = cell;
  }
  return cells;
}

void RawPages::each_cell(
    const std::function<void(Place place, std::string_view local)>& each) const {
  std::string page;
  for (Image image = 0; image < images_; ++image) {
    if (!read(image, page)) continue;
    const auto found = cells(page, image == 0);
    for (std::uint32_t i = 0; i < found.size(); ++i) {
      if (found[i]) each({image, i}, found[i]->local);
    }
  }
}

std::optional<std::string> RawPages::payload(Place place) const {
  std::string page;
  if (!read(place.image, page)) return std::nullopt;
  const auto found = cells(page, place.image == 0);
  if (place.cell >= found.size() || !found[place.cell]) return std::nullopt;
  const Cell& cell = *found[place.cell];
  if (cell.payload_bytes > std::uint64_t{images_} * kPage) return std::nullopt;
  std::string payload(cell.local);
  std::string more;
  std::uint32_t next = cell.next;
  while (payload.size() < cell.payload_bytes) {
    const std::optional<Image> image = image_of(next, place.image);
    if (!image || !read(*image, more)) return std::nullopt;
    next = big_endian(more, 0, 4);
    payload += std::string_view(more).substr(
        4, std::min<std::uint64_t>(kPage - 4, cell.payload_bytes - payload.size()));
  }
  return payload;
}

}  // namespace keelback::store
