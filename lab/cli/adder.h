// Adds commands that write what they are asked for into one set of options.
#pragma once

#include <CLI/App.hpp>
#include <memory>

#include "cli/command.h"

namespace keelback::cli {

template <class Options>
struct Adder {
  Invocation& invocation;
  std::shared_ptr<Options> chosen = std::make_shared<Options>();

  CLI::App* add(CLI::App& group, const char* name, const char* description, const char* example,
                int (*act)(const Invocation&, Options&)) const {
    CLI::App* command = add_command(group, invocation, name, description, example);
    command->callback([&command_line = invocation, options = chosen, act] {
      command_line.run = [&command_line, options, act] { return act(command_line, *options); };
    });
    return command;
  }
};

}  // namespace keelback::cli
