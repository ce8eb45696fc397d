// SPDX-License-Identifier: Apache-2.0
// The state of a part of the machine as a value, and back. A part names each of its fields once, in one function that
// both saving and restoring call:
//
//     void Serial::state(State& state) {
//         state.version(1);
//         state.number("divisor", divisor_);
//         state.number("fifo_count", fifo_count_, 0, fifo_size);
//         state.bytes("fifo", std::as_writable_bytes(std::span{fifo_}));
//     }
//
// The values come from a file that nobody vouches for: while restoring, a field that is missing, of another kind, or
// outside its range is not set, and the first such fault is what result() returns. A part that must check how its
// fields fit together does so after the last of them, with check().
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox {

/// One thread at a time. Names are those of the fields in the file: stable, as every format is.
class State {
public:
    /// Saving: fields are read.
    State() : value_(nlohmann::json::object()) {}
    /// Restoring from what take() returned once: fields are written. `where`: for errors, such as "devices/serial".
    State(nlohmann::json value, std::string where)
        : restores_{true}, where_{std::move(where)}, value_(std::move(value)) {}

    [[nodiscard]] bool restores() const { return restores_; }
    /// Restoring has met no fault so far. After one, fields are left alone.
    [[nodiscard]] bool ok() const { return !error_; }
    [[nodiscard]] Result<void> result() const;
    /// What was saved; empties this.
    [[nodiscard]] nlohmann::json take() { return std::exchange(value_, nlohmann::json::object()); }

    /// The version of this part's fields: 1 at first. Restoring refuses a newer one. Returns the one in the file.
    unsigned version(unsigned current);

    /// Restoring: refuses what is outside [least, most].
    template <class T>
    requires(std::unsigned_integral<T> && !std::same_as<T, bool>) void number(const char* name, T& field, T least = 0,
                                                                              T most = std::numeric_limits<T>::max()) {
        std::uint64_t value = field;
        unsigned_field(name, value, least, most);
        field = static_cast<T>(value);
    }
    /// Enumerators from 0 to `last`, inclusive.
    template <class T>
    requires std::is_enum_v<T>
    void choice(const char* name, T& field, T last) {
        auto value = static_cast<std::uint64_t>(field);
        unsigned_field(name, value, 0, static_cast<std::uint64_t>(last));
        field = static_cast<T>(value);
    }
    void signed_number(const char* name, std::int64_t& field);
    void flag(const char* name, bool& field);
    void text(const char* name, std::string& field, std::size_t most_bytes);
    /// Of exactly this size.
    void bytes(const char* name, std::span<std::byte> field);
    void bytes(const char* name, std::vector<std::byte>& field, std::size_t most_bytes);
    /// A structure of the kernel's, or of a specification: its bytes. It has no padding that matters.
    template <class T>
    requires(std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>) void pod(const char* name, T& field) {
        bytes(name, std::as_writable_bytes(std::span{&field, 1}));
    }

    /// Fields below a name of their own; `each(State&)`. Where it reports a fault, so does this.
    template <class F> void part(const char* name, F&& each) {
        State inner = enter(name);
        if (!ok())
            return;
        each(inner);
        leave(name, inner);
    }
    /// Restoring: resizes the list to that of the file, at most `most`. `each(State&, element)`.
    template <class T, class F> void list(const char* name, std::vector<T>& field, std::size_t most, F&& each) {
        const std::size_t count = begin_list(name, field.size(), most);
        if (restores_ && ok())
            field.resize(count);
        for (std::size_t i = 0; i < count && ok(); ++i) {
            State inner = enter_element(name, i);
            if (!ok())
                return;
            each(inner, field[i]);
            leave_element(name, inner);
        }
    }

    /// Restoring: a fault unless `condition`; `what` says what the file claims, without a full stop.
    void check(bool condition, const char* what);

private:
    void unsigned_field(const char* name, std::uint64_t& field, std::uint64_t least, std::uint64_t most);
    [[nodiscard]] const nlohmann::json* find(const char* name);
    [[nodiscard]] State enter(const char* name);
    void leave(const char* name, State& inner);
    [[nodiscard]] std::size_t begin_list(const char* name, std::size_t size, std::size_t most);
    [[nodiscard]] State enter_element(const char* name, std::size_t index);
    void leave_element(const char* name, State& inner);
    void fault(const char* name, std::string what);

    bool restores_{false};
    std::string where_{};
    nlohmann::json value_;
    std::optional<Error> error_{};
};

} // namespace inox
