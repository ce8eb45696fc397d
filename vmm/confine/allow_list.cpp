// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/allow_list.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <utility>

#include "vmm/base/outside/outside.hpp"
#include "vmm/base/replace_output.hpp"
#include "vmm/base/unix_socket.hpp"

namespace inox::confine {
namespace {

/// openat2(2) that stays beneath `folder`.
UniqueFd open_beneath(int folder, const std::string& path, int flags, unsigned mode) {
    open_how how{};
    how.flags = static_cast<std::uint32_t>(flags);
    how.mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? mode : 0;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    int fd = -1;
    do // EAGAIN: something was renamed meanwhile, and the kernel could not tell where that led
        fd = static_cast<int>(::syscall(SYS_openat2, folder, path.c_str(), &how, sizeof how)); // NOLINT(*-vararg)
    while (fd < 0 && (errno == EAGAIN || errno == EINTR));
    if (fd < 0 && errno == EXDEV)
        errno = outside::refused;
    return UniqueFd{fd};
}

UniqueFd open_path(const std::string& path, int flags = 0) {
    return UniqueFd{::open(path.c_str(), O_PATH | O_CLOEXEC | flags)}; // NOLINT(*-vararg)
}

bool is_port(std::string_view text) {
    return !text.empty() && text.size() <= 10 && text.find_first_not_of("0123456789") == text.npos;
}

/// bind(2) and connect(2) take no folder's descriptor, and 107 bytes only. This process has one thread, so it goes
/// there for the call.
class Visit {
public:
    explicit Visit(int folder) : back_{open_path(".", O_DIRECTORY)} { there_ = back_ && ::fchdir(folder) == 0; }
    ~Visit() {
        const int error = errno;
        if (there_ && ::fchdir(back_.get()) != 0)
            ::_exit(1); // paths would mean something else from here on
        errno = error;
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;
    [[nodiscard]] explicit operator bool() const { return there_; }

private:
    UniqueFd back_;
    bool there_{false};
};

bool writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0; }

/// Nobody needs others, and some do what an open should not: O_ASYNC sends signals.
constexpr int known_flags = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
                            O_DIRECTORY | O_NOFOLLOW | O_DIRECT | O_SYNC | O_DSYNC | O_LARGEFILE;

} // namespace

std::string AllowList::normal(const std::string& path, const std::string& folder) {
    const std::string whole = path.starts_with('/') ? path : folder + "/" + path;
    std::string out;
    for (std::size_t start = 0; start < whole.size();) {
        const auto end = std::min(whole.find('/', start), whole.size());
        const auto part = std::string_view{whole}.substr(start, end - start);
        start = end + 1;
        if (part.empty() || part == ".")
            continue;
        if (part == "..")
            out.resize(out.empty() ? 0 : out.rfind('/'));
        else
            (out += '/') += part;
    }
    return out.empty() ? "/" : out;
}

bool AllowList::add(const std::string& path, Purpose purpose) {
    if (folder_.empty()) {
        std::array<char, PATH_MAX> here{};
        folder_ = ::getcwd(here.data(), here.size()) != nullptr ? here.data() : "/";
    }
    if (bound_ && !bound_->covers(path, purpose)) {
        errno = outside::refused;
        return false;
    }
    if (purpose == Purpose::tap) {
        entries_.push_back({path, purpose});
        return true;
    }
    std::vector<Entry> names{{normal(path, folder_), purpose}};
    // The same by the name that it has without links: a request may use that one.
    if (char* const real = ::realpath(path.c_str(), nullptr); real != nullptr) {
        if (names.front().path != real)
            names.push_back({real, purpose});
        std::free(real); // NOLINT: realpath(3) allocates it
    }
    for (auto& one : names) {
        if (std::ranges::any_of(entries_, [&](const Entry& e) { return e.path == one.path && e.purpose == purpose; }))
            continue;
        if (entries_.size() >= most_entries) {
            errno = ENOSPC;
            return false;
        }
        entries_.push_back(std::move(one));
    }
    return true;
}

void AllowList::narrow() {
    auto all = std::make_shared<AllowList>(*this);
    entries_.clear();
    bound_ = std::move(all);
}

/// Whether this list lets somebody do what an entry of this purpose is for.
bool AllowList::covers(const std::string& path, Purpose purpose) const {
    if (purpose == Purpose::tap)
        return has_tap(path);
    if (purpose != Purpose::ports)
        return !matches(path, purpose).empty();
    const auto wanted = normal(path, folder_.empty() ? "/" : folder_);
    const bool same = std::ranges::any_of(
        entries_, [&](const Entry& one) { return one.purpose == Purpose::ports && one.path == wanted; });
    return same ||
           std::ranges::any_of(matches(path, Purpose::write), [](const Match& one) { return !one.rest.empty(); });
}

std::vector<AllowList::Match> AllowList::matches(const std::string& path, Purpose purpose) const {
    std::vector<Match> found;
    if (path.empty() || path.contains('\0') || folder_.empty())
        return found;
    const auto wanted = normal(path, folder_);
    for (const auto& entry : entries_) {
        const bool enough = entry.purpose == Purpose::write || entry.purpose == purpose;
        if (!enough || entry.purpose == Purpose::tap || entry.purpose == Purpose::ports)
            continue;
        if (wanted == entry.path)
            found.insert(found.begin(), {&entry, ""}); // the operator's own name goes first
        else if (entry.path == "/")
            found.push_back({&entry, wanted.substr(1)});
        else if (wanted.starts_with(entry.path) && wanted[entry.path.size()] == '/')
            found.push_back({&entry, wanted.substr(entry.path.size() + 1)});
    }
    return found;
}

/// What `act` makes of the first match that it can do something with, else the first reason why not.
template <class F> auto AllowList::try_each(const std::string& path, Purpose purpose, F&& act) const {
    int error = outside::refused;
    std::vector<Match> found = matches(path, purpose);
    if (bound_ && !found.empty())
        found = bound_->matches(path, purpose);
    for (const auto& match : found) {
        if (auto done = act(match))
            return done;
        if (error == outside::refused)
            error = errno;
    }
    errno = error;
    return decltype(act(std::declval<const Match&>())){};
}

UniqueFd AllowList::open(const std::string& path, int flags, unsigned mode) const {
    if ((flags & ~known_flags) != 0) {
        errno = EINVAL;
        return {};
    }
    return try_each(path, writes(flags) ? Purpose::write : Purpose::read, [&](const Match& match) {
        if (match.is_named())
            return UniqueFd{::open(normal(path, folder_).c_str(), flags, mode)}; // NOLINT(*-vararg)
        const auto top = open_path(match.entry->path, O_DIRECTORY);
        if (top)
            return open_beneath(top.get(), match.rest, flags, mode);
        if (errno == ENOTDIR)
            errno = outside::refused;
        return UniqueFd{};
    });
}

/// The folder `beneath` a match's entry, or, of one that the operator named, `whole`.
UniqueFd AllowList::folder_of(const Match& match, const std::string& beneath, const std::string& whole) {
    if (match.is_named())
        return open_path(whole, O_DIRECTORY);
    const auto top = open_path(match.entry->path, O_DIRECTORY);
    return top ? open_beneath(top.get(), beneath, O_PATH | O_DIRECTORY | O_CLOEXEC, 0) : UniqueFd{};
}

UniqueFd AllowList::open_folder(const std::string& path, bool read_only) const {
    return try_each(path, read_only ? Purpose::read : Purpose::write,
                    [&](const Match& match) { return folder_of(match, match.rest, normal(path, folder_)); });
}

/// Calls `act` with the last part of the path, while the folder that holds it is the working directory.
template <class F> bool AllowList::in_folder(const std::string& path, Purpose purpose, F&& act) const {
    const auto whole = normal(path, folder_);
    const auto slash = whole.rfind('/');
    const auto name = whole.substr(slash + 1);
    return try_each(path, purpose, [&](const Match& match) {
        const auto last = match.rest.rfind('/');
        const auto folder =
            folder_of(match, last == match.rest.npos ? "." : match.rest.substr(0, last), whole.substr(0, slash + 1));
        if (!folder || name.empty())
            return false;
        const Visit visit{folder.get()};
        return visit && act(name, match.is_named());
    });
}

bool AllowList::bind(int socket, const std::string& path, unsigned mode) const {
    return in_folder(path, Purpose::write, [&](const std::string& name, bool /*named*/) {
        const auto address = unix_address(name);
        return address && bind_with_mode(socket, *address, mode);
    });
}

bool AllowList::connect(int socket, const std::string& path) const {
    const auto connect_to = [&](const std::string& name) {
        const auto address = unix_address(name);
        // NOLINTNEXTLINE: the socket interface casts
        return address && ::connect(socket, reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0;
    };
    const auto wanted = folder_.empty() ? std::string{} : normal(path, folder_);
    for (const auto& entry : entries_)
        if (entry.purpose == Purpose::ports && wanted.starts_with(entry.path + "_") &&
            is_port(std::string_view{wanted}.substr(entry.path.size() + 1))) {
            if (bound_) {
                // A folder of the wider list: no link is followed out of it.
                return bound_->connect(socket, path);
            }
            const auto slash = wanted.rfind('/');
            const auto folder = open_path(wanted.substr(0, slash + 1), O_DIRECTORY);
            const Visit visit{folder.get()};
            return visit && connect_to(wanted.substr(slash + 1));
        }
    return in_folder(path, Purpose::connect, [&](const std::string& name, bool named) {
        if (named)
            return connect_to(name);
        // A link could lead out of what is allowed, so none is followed: by its descriptor, the socket itself.
        const auto itself = open_path(name, O_NOFOLLOW);
        return itself && connect_to("/proc/self/fd/" + std::to_string(itself.get()));
    });
}

bool AllowList::remove(const std::string& path) const {
    return in_folder(path, Purpose::write,
                     [](const std::string& name, bool /*named*/) { return ::unlink(name.c_str()) == 0; });
}

bool AllowList::replace(const std::string& path, std::string_view text) const {
    return in_folder(path, Purpose::write, [&](const std::string& name, bool named) {
        errno = outside::refused;
        if (!named)
            return false;
        const auto done = replace_output(name, text);
        errno = done ? 0 : done.error().sys_errno;
        return done.has_value();
    });
}

bool AllowList::make_folder(const std::string& path) const {
    return in_folder(path, Purpose::write,
                     [](const std::string& name, bool /*named*/) { return ::mkdir(name.c_str(), 0700) == 0; });
}

bool AllowList::rename(const std::string& from, const std::string& to) const {
    errno = outside::refused;
    if (folder_.empty() || matches(to, Purpose::write).empty())
        return false;
    const auto source = normal(from, folder_);
    const auto target = normal(to, folder_);
    const auto name_at = target.rfind('/') + 1;
    if (source.rfind('/') + 1 != name_at || source.compare(0, name_at, target, 0, name_at) != 0 ||
        name_at == target.size())
        return false;
    return in_folder(from, Purpose::write, [&](const std::string& name, bool /*named*/) {
        return rename_durably(name, target.substr(name_at));
    });
}

bool AllowList::has_tap(const std::string& name) const {
    const auto is_control = [](const Entry& entry) {
        return entry.purpose == Purpose::write &&
               (entry.path == "/" || entry.path == "/dev" || entry.path == "/dev/net" || entry.path == "/dev/net/tun");
    };
    return std::ranges::any_of(entries_, [&](const Entry& entry) {
        return (entry.purpose == Purpose::tap && entry.path == name) || is_control(entry);
    });
}

} // namespace inox::confine
