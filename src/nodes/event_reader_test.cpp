#include "nodes/event_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace keelback::nodes {
namespace {

using Events = std::vector<std::pair<std::string, std::string>>;

Events read_all(EventReader& reader) {
  Events events;
  while (auto event = reader.next()) events.emplace_back(event->name, event->data);
  return events;
}

// Goal: events are the same however their bytes are cut.
TEST(EventReader, ReadsEventsInAnyPieces) {
  const std::string text =
      ": keep-alive\n\nevent: item\ndata: 1\n\nevent: item\r\ndata: {\r\ndata:  \"a\": 2}\r\n\r\n"
      "id: 7\nevent: end\ndata:{}\n\ndata: no name\n\nevent: cut";
  const Events events = {{"item", "1"}, {"item", "{\n \"a\": 2}"}, {"end", "{}"}, {"", "no name"}};
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    EventReader reader;
    Events got;
    for (std::size_t at = 0; at < text.size(); at += piece) {
      reader.feed(std::string_view(text).substr(at, piece));
      for (auto& event : read_all(reader)) got.push_back(std::move(event));
    }
    EXPECT_EQ(got, events) << piece;
    EXPECT_EQ(reader.held(), 10U) << "what is not whole: \"event: cut\"";
  }
}

// Goal: what is held can be bounded: it counts the lines of an event that is not whole, too.
TEST(EventReader, SaysWhatItHolds) {
  EventReader reader;
  reader.feed("event: item\ndata: 12345\n");
  EXPECT_EQ(reader.next().has_value(), false);
  EXPECT_EQ(reader.held(), 9U);
  reader.feed("\n");
  EXPECT_TRUE(reader.next().has_value());
  EXPECT_EQ(reader.held(), 0U);
}

}  // namespace
}  // namespace keelback::nodes
