// For tests: every command and option of a program is on its page.
#pragma once

#include <gmock/gmock.h>

#include <CLI/App.hpp>
#include <fstream>
#include <sstream>
#include <string>

namespace keelback::cli {

// Of `command`, whose own words are `path`, and of all commands below it.
inline void expect_on_page(CLI::App& command, const std::string& path, const std::string& page) {
  using testing::HasSubstr;
  for (CLI::App* sub : command.get_subcommands([](CLI::App*) { return true; })) {
    if (sub->get_group().empty()) continue;  // it is hidden
    const std::string words = path + " " + sub->get_name();
    EXPECT_THAT(page, HasSubstr(words));
    for (const CLI::Option* option : sub->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        if (name == "help") continue;
        EXPECT_THAT(page, HasSubstr("--" + name)) << words;
      }
    }
    expect_on_page(*sub, words, page);
  }
}

inline void expect_documented(CLI::App& program, const char* page) {
  std::ifstream file(page);
  std::stringstream text;
  text << file.rdbuf();
  expect_on_page(program, program.get_name(), text.str());
}

}  // namespace keelback::cli
