// SPDX-License-Identifier: Apache-2.0
#include "vmm/jail/options.hpp"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <memory>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <utility>

#include <linux/magic.h>

#include "vmm/config/config_text.hpp"
#include "vmm/jail/words.hpp"

namespace inox::jail {
namespace {

enum class For : std::uint8_t { both, program, run };

struct Option {
    std::string_view name;
    const char* value; ///< in the help; nullptr for a switch
    const char* help;
    bool repeated{false};
    For use{For::both};
};

constexpr Option table[] = {
    {"id", "ID", "name of the guest: 1 to 64 letters, digits and '-'"},
    {"exec-file", "FILE", "the program to jail, in place of inox run", false, For::program},
    {"uid", "UID", "the user that the program runs as; needed with --exec-file, else 65534"},
    {"gid", "GID", "the group that the program runs as; needed with --exec-file, else 65534"},
    {"chroot-base-dir", "DIR", "with --exec-file: folder of all jails; default /srv/jailer", false, For::program},
    {"netns", "PATH", "file of the network namespace to join; the word new makes one with nothing but loopback"},
    {"daemonize", nullptr, "run in the background: in a session of its own, without this terminal"},
    {"new-pid-ns", nullptr, "the program is the first process of a PID namespace; always so for inox run"},
    {"user-ns", nullptr, "a user namespace with that one user; always so for a caller that is not root"},
    {"cgroup", "FILE=VALUE", "write VALUE to FILE of a control group of its own (memory.max=1G); repeatable", true},
    {"cgroup-version", "N", "1 or 2; default 1 with --exec-file, else what /sys/fs/cgroup is"},
    {"parent-cgroup", "PATH", "where that group is made; default the program's name"},
    {"resource-limit", "RESOURCE=VALUE", "limit of no-file, fsize, memlock or core; repeatable", true},
    {"device", "PATH", "make this device file in the jail, too; repeatable", true},
    {"bind", "PATH[:ro]", "show this file or folder in the jail, too; repeatable", true},
    {"pid-file", "FILE", "without --exec-file: write the jail's process id there", false, For::run},
    {"clean-up", nullptr, "remove control group and folder at the end; the default without --exec-file"},
    {"keep", nullptr, "leave them; the default with --exec-file, as Firecracker's jailer does"},
    {"version", nullptr, "show the version"},
    {"help", nullptr, "show this text"},
};

std::unexpected<Error> wrong(const std::string& text, std::string hint = "see inox jail --help") {
    return fail(Errc::bad_option, text, std::move(hint));
}
std::unexpected<Error> wrong_arguments(const std::string& text) { return wrong("Failed to parse arguments: " + text); }

std::unexpected<Error> unexpected_argument(const std::string& name) {
    std::vector<std::string_view> names;
    for (const auto& option : table)
        names.push_back(option.name);
    const auto near = nearest(name, names);
    return wrong("Failed to parse arguments: Found argument '" + printable(name) +
                     "' which wasn't expected, or isn't valid in this context.",
                 near.empty() ? "see inox jail --help" : "did you mean '--" + std::string{near} + "'?");
}

Result<void> check_id(const std::string& id) {
    static constexpr std::size_t longest = 64;
    if (id.empty() || id.size() > longest)
        return wrong(format("Invalid instance ID: Invalid len (%zu);  the length must be between 1 and 64", id.size()));
    for (std::size_t i = 0; i < id.size(); ++i)
        if (std::isalnum(static_cast<unsigned char>(id[i])) == 0 && id[i] != '-')
            return wrong(
                format("Invalid instance ID: Invalid char (%s) at position %zu", printable({&id[i], 1}).c_str(), i));
    return {};
}

Result<std::string> canonical(const std::string& path) {
    const std::unique_ptr<char, decltype(&std::free)> whole{::realpath(path.c_str(), nullptr), &std::free};
    if (!whole)
        return fail_os("Failed to canonicalize path " + printable(path, PATH_MAX));
    return std::string{whole.get()};
}

bool has_mode(const std::string& path, mode_t kind) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && (status.st_mode & S_IFMT) == kind;
}

Result<std::uint32_t> user_number(const Given& given, const char* name, std::uint32_t otherwise) {
    if (!given.has(name))
        return otherwise;
    const auto number = parse_number(given.value(name));
    if (!number || *number > UINT32_MAX - 1) // the last one means "unchanged"
        return wrong("Invalid " + std::string{name} + ": " + printable(given.value(name)));
    return static_cast<std::uint32_t>(*number);
}

Result<CgroupValue> parse_cgroup(const std::string& text) {
    const auto equals = text.find('=');
    if (equals == text.npos || equals == 0 || equals + 1 == text.size() || text.find('=', equals + 1) != text.npos)
        return wrong("Invalid format for cgroups: " + printable(text), "write FILE=VALUE, such as memory.max=1G");
    CgroupValue out{text.substr(0, equals), text.substr(equals + 1)};
    if (out.file.find('.') == out.file.npos || out.file.find('/') != out.file.npos || out.file.starts_with('.'))
        return wrong("Cgroup invalid file: " + printable(out.file), "name a file such as memory.max");
    return out;
}

Result<Limit> parse_limit(const std::string& text) {
    static constexpr std::pair<std::string_view, int> resources[] = {
        {"fsize", RLIMIT_FSIZE}, {"no-file", RLIMIT_NOFILE}, {"memlock", RLIMIT_MEMLOCK}, {"core", RLIMIT_CORE}};
    const auto equals = text.find('=');
    if (equals == text.npos || text.find('=', equals + 1) != text.npos)
        return wrong("Invalid format for resources limits: " + printable(text), "write RESOURCE=VALUE");
    const auto* found = std::ranges::find(resources, std::string_view{text}.substr(0, equals),
                                          [](const auto& one) { return one.first; });
    if (found == std::end(resources))
        return wrong("Invalid resource argument: " + printable(text.substr(0, equals)),
                     "use fsize, no-file, memlock or core");
    const auto value = text.substr(equals + 1);
    const auto number = parse_number(value);
    if (!number)
        return wrong("Invalid limit value for resource: " + printable(value) + ": " +
                     (value.empty() ? "cannot parse integer from empty string" : "invalid digit found in string"));
    return Limit{found->second, *number};
}

Result<void> check_parent(const std::string& path) {
    bool bad = path.empty() || path.starts_with('/');
    for (std::size_t start = 0; start <= path.size();) {
        const auto end = std::min(path.find('/', start), path.size());
        const auto part = std::string_view{path}.substr(start, end - start);
        bad = bad || part == "." || part == "..";
        start = end + 1;
    }
    return bad ? wrong("Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'")
               : Result<void>{};
}

bool host_is_unified() {
    struct statfs status {};
    return ::statfs("/sys/fs/cgroup", &status) == 0 && status.f_type == CGROUP2_SUPER_MAGIC;
}

Result<void> check_cgroups(const Given& given, Options& out) {
    const std::string version = given.value("cgroup-version", out.exec_file.empty() && host_is_unified() ? "2" : "1");
    if (version != "1" && version != "2")
        return wrong(printable(version) + " is an invalid cgroup version specifier", "use 1 or 2");
    out.cgroup_version = version == "1" ? 1 : 2;
    out.parent_cgroup = given.value("parent-cgroup", out.exec_file.empty() ? "inox" : out.exec_name());
    TRY_VOID(check_parent(out.parent_cgroup));
    for (const auto& text : given.all("cgroup"))
        out.cgroups.push_back(TRY(parse_cgroup(text)));
    out.wants_cgroup = !out.exec_file.empty() || given.has("parent-cgroup") || !out.cgroups.empty();
    return {};
}

void put_limit(std::vector<Limit>& all, Limit one) {
    const auto before = std::ranges::find(all, one.resource, &Limit::resource);
    if (before == all.end())
        all.push_back(one);
    else
        *before = one;
}

/// What only one of the two ways to use the command takes.
Result<void> check_use(const Given& given, bool run) {
    for (const auto& option : table)
        if (given.has(option.name) && option.use == (run ? For::program : For::run))
            return wrong("Failed to parse arguments: '--" + std::string{option.name} +
                             (run ? "' is for a program that --exec-file names" : "' is for inox run alone"),
                         "leave it out");
    if (given.has("keep") && given.has("clean-up"))
        return wrong_arguments("Argument 'keep' cannot be used together with argument 'clean-up'.");
    for (const char* name : {"id", "exec-file", "uid", "gid"})
        if (!run && !given.has(name))
            return wrong_arguments("Argument '" + std::string{name} + "' required, but not found.");
    return {};
}

} // namespace

Result<Given> Given::parse(std::span<const char* const> arguments) {
    Given out;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string argument = arguments[i];
        if (argument == "--") {
            out.words_.assign(arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1, arguments.end());
            break;
        }
        if (!argument.starts_with("--"))
            return unexpected_argument(argument);
        const auto equals = argument.find('=');
        const std::string name = argument.substr(2, equals == argument.npos ? equals : equals - 2);
        const auto* option = std::ranges::find(table, name, &Option::name);
        if (option == std::end(table))
            return unexpected_argument(name);
        auto& values = out.values_[name];
        if (!values.empty() && !option->repeated)
            return wrong_arguments("The argument '" + name + "' was provided more than once.");
        if (option->value == nullptr)
            values.emplace_back();
        else if (equals != argument.npos)
            values.push_back(argument.substr(equals + 1));
        else if (i + 1 == arguments.size() || std::string_view{arguments[i + 1]}.starts_with("--"))
            return wrong_arguments("The argument '" + name + "' requires a value, but none was supplied.");
        else
            values.emplace_back(arguments[++i]);
    }
    return out;
}

const std::vector<std::string>& Given::all(std::string_view name) const {
    static const std::vector<std::string> none;
    const auto found = values_.find(name);
    return found == values_.end() ? none : found->second;
}

std::string Given::value(std::string_view name, std::string otherwise) const {
    const auto& values = all(name);
    return values.empty() ? std::move(otherwise) : values.front();
}

Result<Options> check(const Given& given, std::string id) {
    const bool run = given.is_run();
    if (!run && !given.has("exec-file") && !given.has("id") && !given.words().empty())
        return wrong("only inox run can be jailed, or a program that --exec-file names",
                     "try: inox jail -- run --kernel bzImage");
    TRY_VOID(check_use(given, run));
    Options out{.id = given.value("id", std::move(id))};
    TRY_VOID(check_id(out.id));
    if (!run) {
        out.exec_file = TRY(canonical(given.value("exec-file")));
        if (!has_mode(out.exec_file, S_IFREG))
            return wrong(printable(out.exec_file, PATH_MAX) + " is not a file");
        out.chroot_base = TRY(canonical(given.value("chroot-base-dir", "/srv/jailer")));
        if (!has_mode(out.chroot_base, S_IFDIR))
            return wrong(printable(out.chroot_base, PATH_MAX) + " is not a directory");
    }
    const bool root = ::geteuid() == 0;
    out.uid = TRY(user_number(given, "uid", root ? Options::nobody : ::geteuid()));
    out.gid = TRY(user_number(given, "gid", root ? Options::nobody : ::getegid()));
    if (!root && (out.uid != ::geteuid() || out.gid != ::getegid()))
        return wrong("only root can give the program another user", "leave --uid and --gid out, or run this as root");
    out.netns = given.value("netns");
    out.daemonize = given.has("daemonize");
    out.new_pid_ns = run || given.has("new-pid-ns");
    out.user_ns = !root || given.has("user-ns");
    out.clean_up = run ? !given.has("keep") : given.has("clean-up");
    TRY_VOID(check_cgroups(given, out));
    if (!run)
        out.limits.push_back({RLIMIT_NOFILE, 2048});
    for (const auto& text : given.all("resource-limit"))
        put_limit(out.limits, TRY(parse_limit(text)));
    out.devices = given.all("device");
    out.binds = given.all("bind");
    out.pid_file = given.value("pid-file");
    out.words = given.words();
    if (run)
        out.words.erase(out.words.begin());
    return out;
}

std::string help() {
    std::string text = R"(Runs a guest that sees and reaches nothing but what it needs: a root, processes, host name and
System V objects of its own, another user, and no privileges. With --exec-file it does what
Firecracker's jailer does, with the same options, texts and folders; as a program of the name
inox-jailer or jailer it does only that.

Usage: inox jail [OPTIONS] -- run [OPTIONS OF INOX RUN]
Usage: inox jail --id ID --exec-file FILE --uid UID --gid GID [OPTIONS] [-- ARGUMENTS]

Options:
)";
    for (const auto& option : table) {
        std::string line = "  --" + std::string{option.name};
        if (option.value != nullptr)
            line += std::string{" "} + option.value;
        line.resize(std::max<std::size_t>(line.size() + 2, 34), ' ');
        text += line + option.help + "\n";
    }
    return text + R"(
Examples:
  inox jail -- run
  inox jail --uid 3001 --gid 3001 --cgroup memory.max=1G -- run --kernel bzImage --memory 512M
  inox jail --netns /run/netns/vm1 --bind /srv/disks -- run --kernel bzImage --net tap0
  inox jail --id vm1 --exec-file /usr/bin/inox --uid 3001 --gid 3001 -- --config-file vm.json

What is made where, and what a guest in a jail can reach, is in docs/jail.md.
)";
}

} // namespace inox::jail
