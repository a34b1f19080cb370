#include "bench/serve_process.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "bench/http_load.h"

namespace keelback::bench {

std::expected<ServeProcess, std::string> ServeProcess::start(const std::string& program,
                                                             const std::string& app,
                                                             const std::string& python,
                                                             unsigned workers) {
  // On stderr it says where it listens, for people; what goes wrong comes as JSON too.
  auto process = LineProcess::start(
      {program, "serve", app, "--json", "--workers", std::to_string(workers), "--listen",
       "127.0.0.1:0", "--set", "workers.python=" + python, "--set", "log.level=warn"},
      LineProcess::Stderr::kNowhere);
  if (!process) return std::unexpected(process.error());
  const auto announced = process->next();
  if (!announced) return std::unexpected("serve: " + announced.error());
  if (!announced->contains("listening")) return std::unexpected("serve: " + announced->dump());
  const std::string address = (*announced)["listening"][0];
  const auto port =
      static_cast<std::uint16_t>(std::atoi(address.substr(address.rfind(':') + 1).c_str()));
  if (auto up = wait_for_server(port); !up) return std::unexpected(up.error());
  return ServeProcess(std::move(*process), port);
}

std::expected<void, std::string> wait_for_server(std::uint16_t port) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  std::string why;
  while (std::chrono::steady_clock::now() < end) {
    const auto figures = run_http({.port = port, .length = std::chrono::milliseconds(5)});
    if (figures && figures->ok > 0) return {};
    why = figures ? "it answers with errors" : figures.error();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return std::unexpected(fmt::format("port {}: {}", port, why));
}

}  // namespace keelback::bench
