// SPDX-License-Identifier: Apache-2.0
#include "vmm/registry/registry.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "vmm/base/outside/outside.hpp"
#include "vmm/config/config_text.hpp"

namespace inox::registry {
namespace {

constexpr std::string_view lock_ending = ".lock";
constexpr std::string_view socket_ending = ".sock";
/// `inox ps` has a lock for a moment, and so has a start that fails.
constexpr int lock_tries = 50;
constexpr std::chrono::milliseconds between_tries{2};

bool is_own_folder(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == ::geteuid();
}

/// Where the folder belongs, whether it exists or not: the first place that the system keeps for this user alone.
std::string folder_path() {
    const char* runtime = std::getenv("XDG_RUNTIME_DIR"); // NOLINT(concurrency-mt-unsafe): nobody sets it
    if (runtime != nullptr && *runtime == '/' && is_own_folder(runtime))
        return std::string{runtime} + "/inox";
    const auto user = std::to_string(::geteuid());
    if (is_own_folder("/run/user/" + user))
        return "/run/user/" + user + "/inox";
    return "/tmp/inox-" + user; // anybody may have made it: see check_folder()
}

Result<void> check_folder(const std::string& path) {
    struct stat status {};
    static constexpr auto hint = "set XDG_RUNTIME_DIR to a folder of your own, or leave out the id";
    if (::lstat(path.c_str(), &status) != 0)
        return fail_errno(Errc::output_unwritable, "cannot use the folder " + in_quotes(path), hint);
    if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid())
        return fail(Errc::output_unwritable, in_quotes(path) + " is not a folder of yours", hint);
    if ((status.st_mode & 077) != 0)
        return fail(Errc::output_unwritable, "others may use the folder " + in_quotes(path), "chmod 700 it");
    return {};
}

std::string file_of(const std::string& folder, const std::string& id, std::string_view ending) {
    return folder + "/" + id + std::string{ending};
}

UniqueFd open_lock(const std::string& path, int flags) {
    return UniqueFd{::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)}; // NOLINT(*-vararg)
}

bool lock(const UniqueFd& file) { return ::flock(file.get(), LOCK_EX | LOCK_NB) == 0; }

/// What the file of a guest says: "PID\nSOCKET\n".
std::optional<Guest> read_guest(const UniqueFd& file, std::string id) {
    std::string text(4096, '\0');
    const auto got = ::pread(file.get(), text.data(), text.size(), 0);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    Guest guest{.id = std::move(id)};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), guest.pid);
    const auto line = static_cast<std::size_t>(end - text.data());
    if (error != std::errc{} || line >= text.size() || text[line] != '\n' || !text.ends_with('\n'))
        return std::nullopt; // it is being written
    guest.socket = text.substr(line + 1, text.size() - line - 2);
    struct stat status {};
    if (::fstat(file.get(), &status) == 0)
        guest.age = std::chrono::seconds{std::max<time_t>(0, ::time(nullptr) - status.st_mtime)};
    return guest;
}

std::unexpected<Error> taken(const UniqueFd& file, const std::string& id) {
    const auto guest = read_guest(file, id);
    return fail(Errc::in_use,
                "the id " + in_quotes(id) + " belongs to a guest that runs" +
                    (guest ? ": the inox with pid " + std::to_string(guest->pid) : ""),
                "choose another id, or end that guest; inox ps lists them");
}

bool is_gone(const UniqueFd& file) {
    struct stat status {};
    return ::fstat(file.get(), &status) != 0 || status.st_nlink == 0;
}

/// The guest behind a file; what is left of one that is gone is removed.
std::optional<Guest> look(const std::string& folder, const std::string& id) {
    const auto path = file_of(folder, id, lock_ending);
    const auto file = open_lock(path, O_RDONLY);
    if (!file)
        return std::nullopt;
    if (!lock(file))
        return read_guest(file, id);
    if (!is_gone(file)) { // nobody replaces it while it is locked
        ::unlink(file_of(folder, id, socket_ending).c_str());
        ::unlink(path.c_str());
    }
    return std::nullopt;
}

} // namespace

Result<std::string> folder() {
    auto path = folder_path();
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(Errc::output_unwritable, "cannot make the folder " + in_quotes(path),
                          "set XDG_RUNTIME_DIR to a folder of your own, or leave out the id");
    TRY_VOID(check_folder(path));
    return path;
}

Result<Claim> Claim::take(const std::string& id, const std::string& socket) {
    const auto folder = TRY(registry::folder());
    const auto path = file_of(folder, id, lock_ending);
    std::error_code error; // our own folder is gone: the path stays as it is
    const auto whole = std::filesystem::absolute(socket, error).string();
    for (int i = 0;; ++i) {
        auto file = open_lock(path, O_RDWR | O_CREAT);
        if (!file)
            return fail_errno(Errc::output_unwritable, "cannot open " + in_quotes(path));
        if (!lock(file)) {
            if (i == lock_tries)
                return taken(file, id);
            std::this_thread::sleep_for(between_tries);
            continue;
        }
        if (is_gone(file))
            continue;
        Claim claim{std::move(file), path, socket.empty() ? file_of(folder, id, socket_ending) : whole};
        const auto text = std::to_string(::getpid()) + "\n" + claim.socket_ + "\n";
        if (::ftruncate(claim.lock_.get(), 0) != 0)
            return fail_errno(Errc::output_unwritable, "cannot write " + in_quotes(path));
        TRY_VOID(write_all(claim.lock_.get(), text));
        return claim;
    }
}

Claim::~Claim() {
    if (lock_)
        outside::remove(path_);
}

Result<void> check(const std::string& id) {
    const auto folder = folder_path();
    struct stat status {};
    if (::lstat(folder.c_str(), &status) != 0) {
        errno = creation_error(folder);
        return errno == 0 ? Result<void>{}
                          : fail_errno(Errc::output_unwritable, "cannot make the folder " + in_quotes(folder),
                                       "set XDG_RUNTIME_DIR to a folder of your own, or leave out the id");
    }
    TRY_VOID(check_folder(folder));
    const auto file = open_lock(file_of(folder, id, lock_ending), O_RDONLY);
    if (file && !lock(file))
        return taken(file, id);
    return {};
}

std::vector<Guest> running() {
    std::vector<Guest> guests;
    const auto folder = folder_path();
    if (!check_folder(folder))
        return guests;
    const std::unique_ptr<DIR, int (*)(DIR*)> entries{::opendir(folder.c_str()), ::closedir};
    while (const auto* entry = entries ? ::readdir(entries.get()) : nullptr) { // NOLINT: this thread's own
        std::string_view name{entry->d_name};
        if (!name.ends_with(lock_ending))
            continue;
        name.remove_suffix(lock_ending.size());
        if (is_id(name))
            if (auto guest = look(folder, std::string{name}))
                guests.push_back(std::move(*guest));
    }
    std::ranges::sort(guests, {}, &Guest::id);
    return guests;
}

std::optional<Guest> find(const std::string& id) {
    const auto folder = folder_path();
    if (!is_id(id) || !check_folder(folder))
        return std::nullopt;
    return look(folder, id);
}

} // namespace inox::registry
