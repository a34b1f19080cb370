// Reads the pages of a SQLite file and of its write-ahead log without SQLite. Each page that can be
// read is read, whatever else is damaged. The formats are SQLite's, as documented at
// https://www.sqlite.org/fileformat2.html (1.6 b-tree pages, 2.1 records, 4.1 the log).
//
// Nothing here is trusted and nothing is proved: bytes that look like a row are a candidate. Every
// image of a page counts, also those that SQLite would not read: a page of the file that has newer
// images in the log, and frames of the log after a damaged one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "os/fd.h"

namespace keelback::store {

// The columns of one row.
class RawRecord {
 public:
  // Of a payload, or of the beginning of one that holds all of its header. nullopt: it is none.
  static std::optional<RawRecord> parse(std::string_view payload);
  std::size_t columns() const { return columns_.size(); }
  // nullopt: it is no integer (no blob), or is not in the bytes that were given.
  std::optional<std::int64_t> integer(std::size_t column) const;
  std::optional<std::string_view> blob(std::size_t column) const;

 private:
  struct Column {
    std::uint64_t type = 0;
    std::uint64_t at = 0;
    std::uint64_t bytes = 0;
  };
  std::string_view payload_;
  std::vector<Column> columns_;
};

class RawPages {
 public:
  static constexpr std::size_t kPageBytes = 4096;  // of every store

  // Files that cannot be opened have no pages.
  RawPages(const std::string& file, const std::string& log);

  // An image of a page: in the file first, then in the log in the order in which it was written.
  using Image = std::uint32_t;
  // Where a row's cell is.
  struct Place {
    Image image = 0;
    std::uint32_t cell = 0;
  };
  // Each cell of each leaf of a table, with what of its payload is in the leaf.
  void each_cell(const std::function<void(Place place, std::string_view local)>& each) const;
  // The whole payload. Its further pages are those of the same moment: of the file for a leaf of
  // the file, else the latest up to the commit that wrote the leaf.
  std::optional<std::string> payload(Place place) const;

 private:
  struct Cell {
    std::uint64_t payload_bytes = 0;
    std::string_view local;
    std::uint32_t next = 0;  // page; 0: all of it is local
  };
  bool read(Image image, std::string& page) const;
  std::optional<Image> image_of(std::uint32_t page, Image leaf) const;
  static std::vector<std::optional<Cell>> cells(std::string_view page, bool first);

  os::Fd file_, log_;
  Image file_images_ = 0;
  Image images_ = 0;
  std::vector<Image> commit_;  // of each frame: the last image of its commit
  std::unordered_map<std::uint32_t, std::vector<Image>> in_log_;  // by page
};

}  // namespace keelback::store
