/*
 * Past a hard limit of 32 MiB C++'s new fails as it does where memory is short:
 * std::bad_alloc, nullptr for std::nothrow, the new handler asked first. Given an
 * argument it expects that, as the test does when it sets the limit; without one
 * it gets all that it asks for.
 *
 * expect: outcome=exit:0 processes=1 losses.foreign_frees=0
 */
#include "program.h"

#include <new>
#include <string>
#include <vector>

static const size_t large = (size_t)1 << 20;

struct alignas(4096) Wide {
    char bytes[1 << 20];
};

static unsigned long refused;

/* Of every form of new; true where it was refused. */
template <class New> static bool fails(New allocate)
{
    try {
        void *block = opaque(allocate());
        if (block)
            free(block);
        refused += !block;
        return !block;
    } catch (const std::bad_alloc &) {
        refused++;
        return true;
    }
}

static std::vector<char> *spare;

/* What a program gives up when new fails; new then asks again. */
static void give_up_spare()
{
    refused++;
    delete spare;
    spare = nullptr;
    std::set_new_handler(nullptr);
}

int main(int argc, char **)
{
    bool limited = argc > 1;
    std::vector<void *> held;
    held.reserve(64);
    spare = new std::vector<char>(2 * large);
    while (held.size() < 29)
        held.push_back(::operator new(large));
    REQUIRE(fails([] { return ::operator new(any(2 * large)); }) == limited);
    REQUIRE(fails([] { return (void *)new char[any(2 * large)]; }) == limited);
    REQUIRE(fails([] { return ::operator new(any(2 * large), std::nothrow); }) == limited);
    REQUIRE(fails([] { return ::operator new[](any(2 * large), std::nothrow); }) == limited);
    REQUIRE(fails([] { return ::operator new(any(2 * large), std::align_val_t(64)); }) == limited);
    REQUIRE(fails([] { return (void *)new Wide[any(2)]; }) == limited);
    /* Libraries' containers pass it on, and stay what they were. */
    std::string text(1000, 'x');
    REQUIRE(fails([&] { text.resize(any(2 * large)); return (void *)nullptr; }));
    refused -= !limited;
    REQUIRE(!limited || text == std::string(1000, 'x'));
    /* Small ones go on, exceptions among them. */
    for (int i = 0; i < 100; i++)
        REQUIRE(opaque(new char[any(1000)]));
    /* Whoever has something to give up gets what it asked for. */
    std::set_new_handler(give_up_spare);
    if (!limited)
        give_up_spare();
    REQUIRE(opaque(::operator new(any(2 * large))) && !spare);
    say(1, limited ? "refused\n" : "given\n");
    return limited && refused != 8;
}
