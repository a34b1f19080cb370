#include "support/postgres.h"

#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

namespace keelback::test {

std::unique_ptr<Postgres> Postgres::start(std::string& missing) {
  auto in = os::make_pipe();
  auto out = os::make_pipe();
  if (!in || !out) {
    ADD_FAILURE() << "no pipe";
    return nullptr;
  }
  std::unique_ptr<Postgres> server(new Postgres);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in->read.get(), 0);
  ::posix_spawn_file_actions_adddup2(&actions, out->write.get(), 1);
  std::string python = "python3", program = KEELBACK_POSTGRES_PROGRAM;
  std::array<char*, 3> words = {python.data(), program.data(), nullptr};
  const int failed =
      ::posix_spawnp(&server->pid_, "python3", &actions, nullptr, words.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    ADD_FAILURE() << "python3 cannot be started";
    server->pid_ = 0;
    return nullptr;
  }
  server->to_ = std::move(in->write);
  server->from_ = std::move(out->read);
  out->write.reset();
  const auto told = nlohmann::json::parse(server->read_line(), nullptr, false);
  if (told.is_object() && told.contains("missing")) {
    missing = told["missing"];
    return nullptr;
  }
  if (!told.is_object()) {
    ADD_FAILURE() << "PostgreSQL did not start: see above";
    return nullptr;
  }
  server->programs_ = told["bin"];
  server->port_ = told["port"];
  return server;
}

Postgres::~Postgres() {
  to_.reset();  // it ends with its input
  if (pid_ != 0) ::waitpid(pid_, nullptr, 0);
}

std::string Postgres::read_line() {
  for (;;) {
    if (const auto end = buffer_.find('\n'); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    std::array<char, 4096> part;
    const auto got = os::read_some(from_.get(), part.data(), part.size());
    if (!got || *got == 0) return "";
    buffer_.append(part.data(), *got);
  }
}

std::string Postgres::tell(const std::string& command) {
  const std::string line = command + "\n";
  if (::write(to_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    ADD_FAILURE() << command << ": it has gone";
    return "{}";
  }
  std::string answer = read_line();
  const auto told = nlohmann::json::parse(answer, nullptr, false);
  if (!told.is_object() || told.contains("error")) ADD_FAILURE() << command << ": " << answer;
  return answer;
}

std::string Postgres::query(const std::string& database, const std::string& sql) {
  const auto told = nlohmann::json::parse(tell("query " + database + " " + sql), nullptr, false);
  return told.is_object() && told.contains("rows") ? told["rows"].get<std::string>() : "";
}

std::string Postgres::url(const std::string& database) {
  return nlohmann::json::parse(tell("urls " + database))["direct"];
}

std::string Postgres::pooled_url(const std::string& database) {
  return nlohmann::json::parse(tell("urls " + database))["pooled"];
}

}  // namespace keelback::test
