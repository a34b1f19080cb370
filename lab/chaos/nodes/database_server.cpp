#include "chaos/nodes/database_server.h"

#include <fmt/format.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <charconv>
#include <filesystem>
#include <random>
#include <sstream>

#include "chaos/lab.h"
#include "load/soon.h"

namespace keelback::chaos {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr const char* kUser = "keelback";
constexpr const char* kAccount = "postgres";  // of Debian's package
constexpr auto kLimit = 60s;

// The newest one's directory of programs; empty: there is none.
std::string find_programs() {
  std::error_code error;
  std::pair<int, std::string> newest;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", error)) {
    const std::string version = entry.path().filename().string();
    int number = 0;
    std::from_chars(version.data(), version.data() + version.size(), number);
    const std::string programs = (entry.path() / "bin").string();
    if (fs::exists(programs + "/postgres", error)) {
      newest = std::max(newest, std::pair(number, programs));
    }
  }
  return newest.second;
}

std::string draw_password() {
  std::random_device chance;
  return fmt::format("{:08x}{:08x}{:08x}", chance(), chance(), chance());
}

constexpr const char* kJournal = R"(
CREATE TABLE public.chaos_journal (
  n bigserial PRIMARY KEY, what text, session text, birth bigint, epoch bigint, number bigint,
  token bigint, owner text, writer text, position bigint, fate integer);
CREATE FUNCTION public.chaos_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE r keelback.sessions; step bigint;
BEGIN
  r := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
  BEGIN
    step := substring(convert_from(r.state, 'UTF8') from 'keelback_chaos":\s*\[(\d+)')::bigint;
  EXCEPTION WHEN others THEN step := NULL;
  END;
  INSERT INTO public.chaos_journal
    (what, session, birth, epoch, number, token, owner, writer, position, fate)
  VALUES (TG_OP, encode(r.session, 'escape'), r.birth, r.epoch, r.number, r.token,
    coalesce(r.owner_node, ''), current_setting('application_name'), coalesce(step, 0), r.fate);
  RETURN NULL;
END $$;
CREATE TRIGGER chaos_note AFTER INSERT OR UPDATE OR DELETE ON keelback.sessions
  FOR EACH ROW EXECUTE FUNCTION public.chaos_note();
)";

constexpr const char* kReadJournal =
    "SELECT what, session, birth, epoch, number, token, owner, writer, position, fate"
    " FROM public.chaos_journal ORDER BY n";

std::int64_t number(const std::string& text) {
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

std::uint16_t free_port() {
  try {
    boost::asio::io_context loop;
    const boost::asio::ip::tcp::acceptor any(loop, {boost::asio::ip::make_address("127.0.0.1"), 0});
    return any.local_endpoint().port();
  } catch (const boost::system::system_error&) {
    return 0;
  }
}

std::string why_no_database() {
  if (find_programs().empty()) {
    return "PostgreSQL is not installed (Debian: apt-get install postgresql)";
  }
  if (::geteuid() == 0 && ::getpwnam(kAccount) == nullptr) {
    return "PostgreSQL does not run as root, and there is no user postgres";
  }
  return "";
}

DatabaseServer::~DatabaseServer() {
  server_.kill();
  std::error_code error;
  if (!home_.empty()) fs::remove_all(home_, error);
}

std::expected<void, std::string> DatabaseServer::give(const std::string& path) const {
  const passwd* account = ::geteuid() == 0 ? ::getpwnam(kAccount) : nullptr;
  if (account == nullptr || ::chown(path.c_str(), account->pw_uid, account->pw_gid) == 0) return {};
  return std::unexpected(fmt::format("{} cannot be given to the user {}", path, kAccount));
}

std::expected<void, std::string> DatabaseServer::keep(const std::string& name,
                                                      const std::string& line) const {
  const std::string path = home_ + "/" + name;
  if (auto kept = write_file(path, line + "\n"); !kept) return kept;
  if (::chmod(path.c_str(), 0600) != 0) return std::unexpected(path + " cannot be made private");
  return give(path);
}

std::vector<std::string> DatabaseServer::as_owner(const std::string& program,
                                                  const std::vector<std::string>& arguments) const {
  std::vector<std::string> argv;
  if (::geteuid() == 0) {
    argv = {"/usr/bin/setpriv", fmt::format("--reuid={}", kAccount),
            fmt::format("--regid={}", kAccount), "--init-groups", "--"};
  }
  argv.insert(argv.end(), {"/usr/bin/env", "-C", home_, "LC_ALL=C",
                           "PGPASSFILE=" + home_ + "/pgpass", programs_ + "/" + program});
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

std::expected<void, std::string> DatabaseServer::make() {
  if (std::string why = why_no_database(); !why.empty()) return std::unexpected(std::move(why));
  programs_ = find_programs();
  password_ = draw_password();
  port_ = free_port();
  // Its user must be able to enter, whatever TMPDIR is.
  std::string pattern = fmt::format("/tmp/{}postgres-XXXXXX", kScratchPrefix);
  const char* made = ::mkdtemp(pattern.data());
  if (made == nullptr || port_ == 0) return std::unexpected("no place for a database");
  home_ = made;
  if (auto given = give(home_); !given) return given;
  if (auto kept = keep("password", password_); !kept) return kept;
  if (auto kept = keep("pgpass", fmt::format("127.0.0.1:*:*:{}:{}", kUser, password_)); !kept) {
    return kept;
  }
  const auto initialised = output_of(
      as_owner("initdb", {"-D", home_ + "/data", "-U", kUser, "-A", "scram-sha-256", "-E", "UTF8",
                          "--no-locale", "--no-sync", "--pwfile=" + home_ + "/password"}),
      home_ + "/initdb.log", kLimit);
  if (!initialised) return std::unexpected(initialised.error());
  const auto started = start();
  if (!started) return std::unexpected(started.error());
  return {};
}

Evidence DatabaseServer::start() {
  // fsync is off: a fault ends the server, not the machine, and what was written stays.
  const auto started = server_.start(
      processes_, "database",
      as_owner("postgres",
               {"-D", home_ + "/data", "-p", std::to_string(port_), "-c",
                "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off",
                "-c", "dynamic_shared_memory_type=mmap", "-c", "max_connections=100"}),
      home_ + "/server.log");
  if (!started) return std::unexpected(started.error());
  const bool answers = load::soon([&] { return query("SELECT 1").has_value(); }, kLimit, 20ms);
  if (!answers) {
    return std::unexpected("the database did not start: " +
                           read_file(home_ + "/server.log").value_or(""));
  }
  return fmt::format("the database takes connections, process {}", server_.pid());
}

Evidence DatabaseServer::stop() {
  if (!server_.signal(SIGINT)) return std::unexpected("there is no database");
  return server_.wait(kLimit);
}

std::string DatabaseServer::url(std::uint16_t port, const std::string& node) const {
  return fmt::format("postgres://{}:{}@127.0.0.1:{}/postgres?application_name={}", kUser, password_,
                     port, node);
}

std::expected<std::string, std::string> DatabaseServer::query(const std::string& sql) {
  const std::string log = fmt::format("{}/query-{}", home_, ++asked_);
  auto answer =
      output_of(as_owner("psql", {"-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-h",
                                  "127.0.0.1", "-p", std::to_string(port_), "-U", kUser, "-d",
                                  "postgres", "-c", sql}),
                log, kLimit);
  std::error_code error;
  fs::remove(log, error);
  return answer;
}

std::expected<void, std::string> DatabaseServer::keep_journal() {
  const auto made = query(kJournal);
  if (!made) return std::unexpected(made.error());
  return {};
}

std::expected<std::vector<CommitEvent>, std::string> DatabaseServer::journal() {
  const auto text = query(kReadJournal);
  if (!text) return std::unexpected(text.error());
  std::vector<CommitEvent> out;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    std::vector<std::string> cells;
    std::istringstream row(line);
    for (std::string cell; std::getline(row, cell, '\t');) cells.push_back(std::move(cell));
    if (cells.size() != 10) return std::unexpected("the journal has an unknown line: " + line);
    out.push_back({.what = cells[0],
                   .session = cells[1],
                   .birth = static_cast<std::uint64_t>(number(cells[2])),
                   .epoch = static_cast<std::uint32_t>(number(cells[3])),
                   .number = static_cast<std::uint64_t>(number(cells[4])),
                   .token = static_cast<std::uint64_t>(number(cells[5])),
                   .owner = cells[6],
                   .writer = cells[7],
                   .position = static_cast<std::uint64_t>(number(cells[8])),
                   .lost = number(cells[9]) != 0});
  }
  return out;
}

}  // namespace keelback::chaos
