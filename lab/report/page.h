// One offline HTML file: no script, no font, no picture from elsewhere. Readable on a screen (light
// and dark) and on paper.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keelback::report {

// Text for element content and double-quoted attributes.
std::string escape(std::string_view text);

enum class Tone { kPlain, kGood, kWarn, kBad, kMuted };

struct Cell {
  std::string text;  // escaped on output
  Tone tone = Tone::kPlain;
  bool number = false;  // right-aligned, tabular figures
  Cell(std::string t, Tone tn = Tone::kPlain, bool n = false)
      : text(std::move(t)), tone(tn), number(n) {}
  Cell(const char* t) : text(t) {}
};

struct Table {
  std::vector<std::string> head;
  std::vector<std::vector<Cell>> rows;
  std::string empty = "nothing";  // shown when there are no rows
};

// A number to be seen from across the room.
struct Tile {
  std::string value;  // "16.5 µs"
  std::string label;
  Tone tone = Tone::kPlain;
};

class Page {
 public:
  Page(std::string title, std::string subtitle);

  // The strip at the top: a verdict, a sentence, and facts as name/value pairs.
  void banner(Tone tone, std::string_view verdict, std::string_view sentence,
              const std::vector<std::pair<std::string, std::string>>& facts);
  // Numbers at the top, under the banner.
  void tiles(const std::vector<Tile>& tiles);
  // Starts a section; everything until the next one belongs to it. Sections are listed at the top.
  void section(std::string_view heading, std::string_view lead = {});
  void paragraph(std::string_view text);
  void note(Tone tone, std::string_view text);
  void table(const Table& table);
  void code(std::string_view text);  // a command or a log, verbatim
  // A chart made by this folder, with a caption. The only thing not escaped.
  void figure(std::string_view svg, std::string_view caption);

  std::string html() const;

 private:
  std::string title_, subtitle_, top_, body_;
  std::vector<std::pair<std::string, std::string>> contents_;  // id, heading
  bool open_ = false;
};

}  // namespace keelback::report
