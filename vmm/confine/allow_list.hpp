// SPDX-License-Identifier: Apache-2.0
// What the broker may open for a confined process. A path is compared as text, after "." and ".." are taken out of it,
// and then opened in a way that cannot leave what was allowed, whatever links are made or exchanged meanwhile.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vmm/base/os.hpp"

namespace inox::confine {

/// What an entry is for.
enum class Purpose : std::uint8_t {
    read,    ///< open for reading
    write,   ///< open for reading and writing; make, remove, bind
    connect, ///< connect to the unix socket
    ports,   ///< the same to PATH_N, with a port number N
    tap,     ///< `path` is the name of a tap
};

struct Allowed {
    std::string path;
    Purpose purpose;
    bool operator==(const Allowed&) const = default;
};

/// One thread. Errors are errno; outside::refused when no entry fits.
class AllowList {
public:
    static constexpr std::size_t most_entries = 4096;

    /// Relative paths start at the working directory, which must not change. ENOSPC: there are enough. A folder allows
    /// what is beneath it, now or later; "/" is everything, links of any kind included.
    bool add(const std::string& path, Purpose purpose);
    /// From now on the list is empty, and what is added to it must be in what it was (outside::refused), which also
    /// says how it is opened: a narrower list for somebody else, of whatever that one asks for.
    void narrow();

    /// open(2). Links beneath an allowed folder may lead to what is beneath it only, and are relative. A path that an
    /// entry names itself is opened as the operator named it, links included.
    [[nodiscard]] UniqueFd open(const std::string& path, int flags, unsigned mode) const;
    [[nodiscard]] bool bind(int socket, const std::string& path, unsigned mode) const;
    [[nodiscard]] bool connect(int socket, const std::string& path) const;
    [[nodiscard]] bool remove(const std::string& path) const;
    [[nodiscard]] bool replace(const std::string& path, std::string_view text) const;
    [[nodiscard]] bool make_folder(const std::string& path) const;
    /// Within one folder: rename_durably().
    [[nodiscard]] bool rename(const std::string& from, const std::string& to) const;
    /// A folder to be shared.
    [[nodiscard]] UniqueFd open_folder(const std::string& path, bool read_only) const;
    [[nodiscard]] bool has_tap(const std::string& name) const;

    /// An absolute path without ".", ".." and double slashes; text only.
    [[nodiscard]] static std::string normal(const std::string& path, const std::string& folder);

private:
    struct Entry {
        std::string path; ///< normal
        Purpose purpose;
    };
    /// An entry that fits, and what is left of the path beneath it; empty: the entry itself.
    struct Match {
        const Entry* entry;
        std::string rest;
        /// The operator said that it may be opened wherever it leads.
        [[nodiscard]] bool is_named() const { return rest.empty() || entry->path == "/"; }
    };
    [[nodiscard]] bool covers(const std::string& path, Purpose purpose) const;
    [[nodiscard]] std::vector<Match> matches(const std::string& path, Purpose purpose) const;
    template <class F> [[nodiscard]] auto try_each(const std::string& path, Purpose purpose, F&& act) const;
    [[nodiscard]] static UniqueFd folder_of(const Match& match, const std::string& beneath, const std::string& whole);
    template <class F> [[nodiscard]] bool in_folder(const std::string& path, Purpose purpose, F&& act) const;

    std::vector<Entry> entries_{};
    std::shared_ptr<const AllowList> bound_{}; ///< what acts; null: this list itself
    std::string folder_{};                     ///< the working directory, known from the first entry on
};

} // namespace inox::confine
