/* codec.h: what the generator needs of the decoder. */
#ifndef IC_CODEC_H
#define IC_CODEC_H

#include "internal.h"

/* Decodes without a look at the packet's checksum; the frame is the caller's. */
int ic_decoder_reconstruct(ic_decoder *decoder, const ic_packet *packet, ic_frame **frame);

/* Makes the frame a reference, which takes over the caller's hold on it. */
void ic_decoder_keep(ic_decoder *decoder, ic_frame *frame);

#endif
