/*
 * Item 11. C++: new, new[], aligned and nothrow new, sized delete, and
 * exceptions. libstdc++ calls malloc for all of them.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=operator_new live_blocks=40
 * expect: site=__cxa_allocate_exception live_blocks=0 live_bytes=0
 * expect: losses.foreign_frees=0
 */
#include "program.h"

#include <new>
#include <stdexcept>
#include <string>

struct alignas(256) Wide {
    char bytes[512];
};

static unsigned long held;

template <class T> static T *hold(T *object)
{
    REQUIRE(object != nullptr);
    held += malloc_usable_size(opaque(object));
    return object;
}

static int thrown(int i)
{
    try {
        throw std::runtime_error(std::string(100, 'x') + std::to_string(i));
    } catch (const std::exception &error) {
        return strlen(error.what()) > 100;
    }
}

int main()
{
    int caught = 0;
    for (int i = 0; i < 10; i++) {
        hold(new long(i));
        hold(new char[1000]);
        hold(new (std::nothrow) char[100]);
        REQUIRE((uintptr_t)hold(new Wide) % 256 == 0);
        delete (long *)opaque(new long(i));
        delete[] (char *)opaque(new char[500]);
        delete (Wide *)opaque(new Wide);
        ::operator delete(opaque(::operator new(64)), (size_t)64);
        ::operator delete(opaque(::operator new(64, std::align_val_t(64))), (size_t)64, std::align_val_t(64));
        caught += thrown(i);
    }
    bool refused = false;
    try {
        opaque(::operator new(any(SIZE_MAX / 2 + 1)));
    } catch (const std::bad_alloc &) {
        refused = true;
    }
    REQUIRE(refused && opaque(::operator new(any(SIZE_MAX / 2 + 1), std::nothrow)) == nullptr);
    expect("site=operator_new live_bytes=%lu", held);
    say(1, "%d caught\n", caught);
}
