#include "cli/doctor.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/json_text.h"
#include "cli/output.h"
#include "cli/probe.h"
#include "host/install.h"
#include "os/machine.h"

namespace keelback::cli {
namespace {

constexpr int kPythonMajor = 3;
constexpr int kPythonMinor = 9;
// Of one worker: two sockets, its log, its pidfd, its marks, slabs; and of the pool itself.
constexpr std::uint64_t kFdsPerWorker = 16;
constexpr std::uint64_t kFdsBase = 1200;  // 1024 connections, listeners, the loop

Check good(std::string name, std::string found) {
  return {std::move(name), Finding::kOk, std::move(found), ""};
}
Check bad(std::string name, Finding finding, std::string found, std::string advice) {
  return {std::move(name), finding, std::move(found), std::move(advice)};
}

std::string file_text(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  std::string result = text.str();
  while (result.ends_with('\n')) result.pop_back();
  return result;
}

Check kernel() {
  utsname name{};
  ::uname(&name);
  const std::string release = name.release;
  if (kernel_at_least(release, 5, 10)) return good("kernel", release);
  return bad("kernel", Finding::kFail, release, "Linux 5.10 or newer is needed");
}

Check pidfd() {
  const long fd = ::syscall(SYS_pidfd_open, ::getpid(), 0);
  if (fd < 0) {
    return bad("pidfd", Finding::kFail, std::strerror(errno),
               "pidfd_open must be allowed: a container's seccomp profile may forbid it");
  }
  const long sent = ::syscall(SYS_pidfd_send_signal, fd, 0, nullptr, 0);
  const int error = errno;
  ::close(static_cast<int>(fd));
  if (sent == 0) return good("pidfd", "pidfd_open and pidfd_send_signal work");
  return bad("pidfd", Finding::kFail, std::strerror(error), "pidfd_send_signal must be allowed");
}

Check memfd() {
  const int fd = ::memfd_create("keelback-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) {
    return bad("memfd", Finding::kFail, std::strerror(errno), "memfd_create must be allowed");
  }
  ::close(fd);
  return good("memfd", "memfd_create with sealing works");
}

Check program(const char* name, Finding missing, const char* advice) {
  const std::string path = host::find_program(name);
  return path.empty() ? bad(name, missing, "not found", advice) : good(name, path);
}

// ---- Python

constexpr const char* kAsk = R"(
import json, sys, sysconfig
sys.path.insert(0, sys.argv[1])
found = {"version": list(sys.version_info[:3]), "executable": sys.executable, "venv": sys.prefix != sys.base_prefix,
         "prefix": sys.prefix, "gil_can_be_off": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
         "gil_on": getattr(sys, "_is_gil_enabled", lambda: True)(), "runtime": "", "error": "", "package": ""}
try:
    import keelback
    found["runtime"] = keelback.__file__
except BaseException as error:
    found["error"] = f"{type(error).__name__}: {error}"
try:
    from importlib import metadata
    found["package"] = metadata.version("keelback")
except BaseException:
    pass
print(json.dumps(found))
)";

Check gil_on(std::string found, std::string cause) {
  return bad("gil", Finding::kWarn, std::move(found),
             "threads of a worker compute one after another. " + std::move(cause));
}

// Of an interpreter that has not imported an application.
Check gil_at_start(bool can_be_off, bool on) {
  if (!can_be_off) return good("gil", "on, as in any usual Python");
  if (on) {
    return gil_on("this Python was built without a GIL, and it is on",
                  "PYTHON_GIL=1 or an option of the interpreter asks for it");
  }
  return good("gil", "off. keelback doctor APP says whether an application's import turns it on");
}

Check gil_with(const std::string& app, const Settings& settings, const std::string& directory) {
  const auto output = run_program(
      {settings.workers.python, directory + "/keelback/start.py", "keelback.gil", "--app", app},
      std::chrono::duration_cast<std::chrono::milliseconds>(settings.workers.start_timeout));
  if (!output) return bad("gil", Finding::kWarn, output.error(), "import it in a Python by hand");
  if (output->status != 0) {
    return bad("gil", Finding::kWarn,
               fmt::format("the import of {} ended with status {}: {}", app, output->status,
                           output->err.substr(0, 500)),
               "a worker would end in the same way");
  }
  return gil_check(app, output->out);
}

std::vector<Check> python(const Settings& settings, const std::string& app) {
  const std::string directory = host::find_python_directory();
  const std::string& name = settings.workers.python;
  const auto output = run_program({name, "-c", kAsk, directory}, std::chrono::seconds(20));
  if (!output) {
    return {bad("python", Finding::kFail, output.error(),
                "set workers.python to a Python from 3.9 on")};
  }
  const Json found = parse_json<Json>(output->out);
  if (output->status != 0 || array_in(found, "version").size() != 3) {
    return {bad("python", Finding::kFail,
                fmt::format("{} ended with status {}: {}", name, output->status,
                            output->err.substr(0, 500)),
                "set workers.python to a Python from 3.9 on")};
  }
  const Json version = array_in(found, "version");
  const int major = version[0].get<int>();
  const int minor = version[1].get<int>();
  const std::string text = fmt::format("{}.{}.{} at {}", major, minor, version[2].get<int>(),
                                       text_in(found, "executable"));
  std::vector<Check> checks;
  if (major < kPythonMajor || (major == kPythonMajor && minor < kPythonMinor)) {
    checks.push_back(bad("python", Finding::kFail, text, "Python 3.9 or newer is needed"));
  } else {
    checks.push_back(good("python", text));
  }
  const bool venv = flag_in(found, "venv");
  checks.push_back(
      good("environment", venv ? "virtual environment " + text_in(found, "prefix")
                               : "the system's packages; a virtual environment is chosen by "
                                 "workers.python=VENV/bin/python"));
  const bool gil_is_on = flag_in(found, "gil_on");
  checks.push_back(gil_is_on || app.empty() || directory.empty()
                       ? gil_at_start(flag_in(found, "gil_can_be_off"), gil_is_on)
                       : gil_with(app, settings, directory));
  if (directory.empty() || text_in(found, "runtime").empty()) {
    const std::string error = text_in(found, "error");
    checks.push_back(bad("runtime", Finding::kFail,
                         directory.empty() ? "the Python package keelback was not found" : error,
                         "install it, or set KEELBACK_PYTHON_DIR to the folder that holds it"));
  } else {
    checks.push_back(good("runtime", text_in(found, "runtime")));
  }
  // What `pip install keelback` has put beside the application.
  if (const std::string package = text_in(found, "package"); !package.empty()) {
    checks.push_back(package == KEELBACK_VERSION
                         ? good("package", package)
                         : bad("package", Finding::kWarn,
                               fmt::format("the environment has keelback {}, this program is {}",
                                           package, KEELBACK_VERSION),
                               "workers use the runtime of this program, tests and editors that of "
                               "the environment: install the same version in both"));
  }
  return checks;
}

// ---- limits

Check descriptors(const Settings& settings) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::uint64_t needed = kFdsBase + kFdsPerWorker * settings.pool.size_max();
  const std::string text =
      fmt::format("{} allowed, about {} may be needed", limit.rlim_cur, needed);
  if (limit.rlim_cur >= needed) return good("descriptors", text);
  return bad("descriptors", Finding::kWarn, text,
             fmt::format("raise it: ulimit -n {} (the hard limit is {})", needed, limit.rlim_max));
}

Check processes(const Settings& settings) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NPROC, &limit);
  if (limit.rlim_cur == RLIM_INFINITY) return good("processes", "no limit");
  const std::string text =
      fmt::format("{} allowed, {} workers configured", limit.rlim_cur, settings.pool.size_max());
  if (limit.rlim_cur >= 4ULL * settings.pool.size_max() + 64) return good("processes", text);
  return bad("processes", Finding::kWarn, text, "raise it: ulimit -u");
}

Check cores(const Settings& settings) {
  const unsigned count = std::thread::hardware_concurrency();
  return good("processors", fmt::format("{} for {} workers", count, settings.pool.size_max()));
}

Check memory() {
  return good("memory", fmt::format("{} available", human_bytes(os::machine_memory().available)));
}

// Whether an out-of-memory kill can be told from another SIGKILL.
Check oom_proof() {
  const std::string group = file_text("/proc/self/cgroup");
  const auto at = group.find("0::");
  const std::string path = at == std::string::npos
                               ? ""
                               : "/sys/fs/cgroup" +
                                     group.substr(at + 3, group.find('\n', at) - at - 3) +
                                     "/memory.events";
  if (!path.empty() && ::access(path.c_str(), R_OK) == 0) return good("oom proof", path);
  return bad("oom proof", Finding::kWarn, "no readable memory.events of a version 2 cgroup",
             "out-of-memory kills will be reported as suspected, not as proved");
}

Check pressure() {
  if (::access("/proc/pressure/cpu", R_OK) == 0) return good("pressure", "/proc/pressure works");
  return bad("pressure", Finding::kWarn, "no /proc/pressure",
             "a starved machine is told from a stuck worker by run delays alone");
}

}  // namespace

std::string_view to_string(Finding finding) {
  switch (finding) {
    case Finding::kOk:
      return "ok";
    case Finding::kWarn:
      return "warn";
    case Finding::kFail:
      break;
  }
  return "fail";
}

Check gil_check(const std::string& app, std::string_view report) {
  const Json found = parse_json<Json>(report);
  if (!found.is_object()) {
    return bad("gil", Finding::kWarn, fmt::format("the import of {} ended its process", app),
               "a worker would end in the same way");
  }
  if (const std::string error = text_in(found, "error"); !error.empty()) {
    return bad("gil", Finding::kWarn, fmt::format("{} cannot be imported: {}", app, error),
               "keelback run shows the whole traceback");
  }
  if (!flag_in(found, "on")) {
    return good("gil", fmt::format("off, also after the import of {}", app));
  }
  const std::string module = text_in(found, "module");
  if (module.empty()) {
    return gil_on(fmt::format("on after the import of {}", app),
                  "No module was seen to turn it on");
  }
  return gil_on(
      fmt::format("on: {} ({}) turns it on. It is imported by {}", module, text_in(found, "file"),
                  text_in(found, "imported_by")),
      fmt::format("Install a version of {} that can do without the GIL. PYTHON_GIL=0 keeps it off, "
                  "at your own risk",
                  module.substr(0, module.find('.'))));
}

bool kernel_at_least(std::string_view release, int major, int minor) {
  int have_major = 0, have_minor = 0;
  const char* const end = release.data() + release.size();
  const auto first = std::from_chars(release.data(), end, have_major);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != '.') return false;
  if (std::from_chars(first.ptr + 1, end, have_minor).ec != std::errc()) return false;
  return have_major > major || (have_major == major && have_minor >= minor);
}

std::vector<Check> examine_machine(const Settings& settings, const std::string& app) {
  std::vector<Check> checks = {kernel(), pidfd(), memfd()};
  checks.push_back(program("keelback-guard", Finding::kFail,
                           "build or install it beside keelback, or set KEELBACK_LIBEXEC_DIR"));
  checks.push_back(
      program("keelback-fakeworker", Finding::kWarn, "only pool.backend=fake needs it"));
  for (Check& check : python(settings, app)) checks.push_back(std::move(check));
  checks.push_back(cores(settings));
  checks.push_back(memory());
  checks.push_back(descriptors(settings));
  checks.push_back(processes(settings));
  checks.push_back(oom_proof());
  checks.push_back(pressure());
  return checks;
}

}  // namespace keelback::cli
